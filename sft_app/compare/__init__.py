"""What changed: two answers from one model, and numbers over the held-out conversations."""
