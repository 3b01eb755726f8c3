"""Store each run in a folder on disk, through which all processes communicate."""
