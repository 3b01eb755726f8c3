"""Detect the hardware, find the model a user means, and load it into memory."""
