"""Read by each process that the tests start, since this folder is on their path: they use the template too."""

import os

if "SFT_TEST_TEMPLATE" in os.environ:
    import importlib.util

    _spec = importlib.util.spec_from_file_location("_sft_forked", os.path.join(os.path.dirname(__file__), "forked.py"))
    assert _spec and _spec.loader
    _forked = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_forked)
    _forked.use_template()
