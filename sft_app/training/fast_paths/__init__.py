"""What makes a training step fast."""
