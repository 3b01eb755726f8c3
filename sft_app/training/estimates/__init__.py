"""Estimate what a step and a run take, by formula, and choose the step that suits the machine."""
