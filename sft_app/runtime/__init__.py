"""What the app stands on: its home folder, its variables, files that appear whole, and processes."""
