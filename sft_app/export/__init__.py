"""What leaves the app: for now the adapter as one file."""
