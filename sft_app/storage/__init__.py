"""Copying runs to a place that outlives this machine's disk, and restoring them from there."""
