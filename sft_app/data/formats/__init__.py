"""Rows to conversations: which layout a file has, and how each layout is converted."""
