"""Read files and Hub datasets as numbered rows in bounded memory, and report what cannot be read."""
