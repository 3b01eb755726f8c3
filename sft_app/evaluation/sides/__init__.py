"""Sides of a prompt set beyond the two of a pair, and training examples in front of a question."""
