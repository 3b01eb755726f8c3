"""One module for each kind of layout: each has the functions that turn a row into message lists."""
