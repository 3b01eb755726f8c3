"""Copy runs to storage that outlives the local disk, and restore them from there."""
