"""A run with a real adapter, made as Compare's tests make it, and a Hub to push it to."""

from tests.export.hub_stand_in import hub as hub
from tests.made_runs import make_run as make_run
