"""Intervals, exact tests and confidence sequences: how sure a number is, whatever it measures."""
