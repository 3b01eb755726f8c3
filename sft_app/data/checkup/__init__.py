"""Checks data before training: its faults, fixes for them, and the lengths of the conversations."""
