"""Export: what can be taken out of a run, and where it can be put."""
