"""Reads files and Hub data sets as numbered rows, in bounded memory; reports what cannot be read."""
