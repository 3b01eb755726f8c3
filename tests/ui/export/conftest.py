"""A run with a real adapter, made as Compare's tests make it."""

from tests.made_runs import make_run as make_run
