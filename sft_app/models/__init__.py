"""Which machine this is, which model is meant, and how it gets into memory."""
