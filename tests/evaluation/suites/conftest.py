from __future__ import annotations

import pytest

from tests.made_runs import base_model as base_model
from tests.made_runs import load_untouched as load_untouched
from tests.made_runs import make_run as make_run


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All models here are tiny."""
