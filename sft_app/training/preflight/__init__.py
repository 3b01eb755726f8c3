"""Estimating and measuring what a run will take, before it starts."""
