"""Functions that turn a row into message lists, one module per kind of layout."""
