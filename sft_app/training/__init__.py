"""Runs: launch creates one, the supervisor starts a worker for it, the worker trains it."""
