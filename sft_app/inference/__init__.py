"""Runs models: one side or two, alone or as rows of one batch. It knows nothing about judging what they say."""
