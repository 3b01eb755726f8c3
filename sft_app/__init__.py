"""Fine-tune & Compare: adapt a chat model to your own examples, and see what changed."""
