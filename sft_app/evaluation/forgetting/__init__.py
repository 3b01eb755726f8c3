"""What a fine-tuned model no longer knows: general questions, who knew them before, and the result in words."""
