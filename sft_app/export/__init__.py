"""What leaves the app: a run's adapter as one file, and its report."""
