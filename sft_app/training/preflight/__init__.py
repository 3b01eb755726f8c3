"""Estimate and measure what a run will take, before it starts."""
