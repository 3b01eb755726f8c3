"""Export what a run has learned: its adapter, a merged model, a report, a Hub repository or a Space."""
