"""Judge models: held-out scores, answer metrics, intervals, verdicts, prompt sets and votes."""
