from tests.made_runs import make_run as make_run
