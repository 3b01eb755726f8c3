"""Read files and Hub data sets as numbered rows in bounded memory, and report what cannot be read."""
