"""The Runs tab, and the panel that shows one run."""
