"""Runs on disk: a folder each, which is the contract between all processes."""
