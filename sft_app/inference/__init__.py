"""Run models: one side or two, alone or as rows of one batch. Judging the answers is left to `evaluation`."""
