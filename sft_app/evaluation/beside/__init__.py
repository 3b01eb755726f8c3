"""What the scorecard says besides base and fine-tuned: a prompt instead of training, memorised answers."""
