"""Train runs: `launch` creates one, the supervisor starts a worker for it, and the worker trains it."""
