"""The Compare tab: one prompt, a scorecard, many prompts, a blind test, and a report of the results."""
