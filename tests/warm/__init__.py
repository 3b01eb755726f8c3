"""Processes of the tests that begin with their libraries imported.

Starting a worker or a page costs 8 to 12 seconds of CPU, nearly all of it for imports, and the tests start some two
hundred. Here one template process imports everything once and forks for each of them. What it forks is a process of its
own with its own pid, locks and signals, which runs the same module with the same arguments as `python -m` would.

A process is started plainly where that may make a difference: see `forked.can_fork`, and the fixture `plain_processes`.
"""
