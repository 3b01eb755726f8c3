"""What the page's handlers ask for: data, check-ups, models, runs, preflight, and who may do what."""
