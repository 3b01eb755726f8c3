"""The two ways of training."""
