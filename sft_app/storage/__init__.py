"""Copies of runs in a place that outlives the disk they work on, and the way back."""
