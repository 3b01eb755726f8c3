"""A model that needs a login is put on the machine while its visitor is there, and loaded without one later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import ModelError
from sft_app.hub import login
from sft_app.models.catalog import ModelRef, fetch_if_restricted, fetched_folder, model_files
from sft_app.models.loading import load_tokenizer
from tests.models.test_catalog import SHA

REF = ModelRef("org/tiny", "org/tiny", SHA, "Hugging Face Hub")


@pytest.fixture
def restricted(hub: Any, tiny_model_dir: Path) -> Any:
    files = tuple(file.name for file in tiny_model_dir.iterdir())
    hub.add_model("org/tiny", SHA, files, gated="manual")
    hub.replies[f"/api/models/org/tiny/revision/{SHA}"] = hub.replies["/api/models/org/tiny"]
    hub.add_files("org/tiny", SHA, tiny_model_dir)
    return hub


@pytest.fixture
def visitor() -> Iterator[None]:
    login.set_token_source(lambda: "hf_visitor")
    yield
    login.set_token_source(None)


@pytest.mark.usefixtures("visitor")
def test_it_is_fetched_with_the_visitor_s_login_and_loaded_without_asking(restricted: Any, home: Path) -> None:
    fetch_if_restricted(REF, home)
    assert set(restricted.tokens) == {"hf_visitor"}
    login.set_token_source(lambda: False)
    asked = len(restricted.asked)
    assert load_tokenizer(REF, home).eos_token == "<|im_end|>"
    assert len(restricted.asked) == asked
    assert model_files(REF, home) == {"pretrained_model_name_or_path": str(fetched_folder(REF, home))}


@pytest.mark.usefixtures("visitor")
def test_one_that_everybody_may_load_is_left_to_the_run(hub: Any, home: Path) -> None:
    hub.add_model("org/tiny", SHA)
    hub.replies[f"/api/models/org/tiny/revision/{SHA}"] = hub.replies["/api/models/org/tiny"]
    fetch_if_restricted(REF, home)
    assert fetched_folder(REF, home) is None
    assert model_files(REF, home)["token"] == "hf_visitor"


@pytest.mark.usefixtures("visitor")
def test_one_that_the_hub_does_not_give_is_told(hub: Any, home: Path) -> None:
    with pytest.raises(ModelError, match="The Hub has no model org/tiny. Check the spelling; if it is private"):
        fetch_if_restricted(REF, home)
