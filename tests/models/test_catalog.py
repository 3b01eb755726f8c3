"""What a model's name means, and what is said when it means nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import ModelError
from sft_app.models.catalog import ModelRef, model_files, resolve_model
from sft_app.models.starter import STARTER_HUB_ID, STARTER_SOURCE

SHA = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(cache: Path, name: str, sha: str, ref: str = "main") -> None:
    """What the Hub client leaves behind after a download."""
    folder = cache / ("models--" + name.replace("/", "--"))
    (folder / "snapshots" / sha).mkdir(parents=True)
    (folder / "snapshots" / sha / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / ref).write_text(sha)


def test_folder_is_a_model_of_its_own_name(tiny_model_dir: Path, home: Path) -> None:
    ref = resolve_model(str(tiny_model_dir), None, home)
    assert ref == ModelRef(str(tiny_model_dir), str(tiny_model_dir.resolve()), None, "local folder")
    assert ref.public_id == "tiny"
    assert model_files(ref, home)["pretrained_model_name_or_path"] == str(tiny_model_dir.resolve())


def test_relative_folder_is_recorded_in_full(tiny_model_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model_dir.parent)
    assert resolve_model("tiny", None, home).location == str(tiny_model_dir.resolve())
    assert resolve_model("./tiny", None, home).location == str(tiny_model_dir.resolve())


def test_folder_without_config_is_not_a_model(tmp_path: Path, home: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="is not a model folder: it has no config.json"):
        resolve_model(str(tmp_path), None, home)


def test_folder_with_pickled_weights_is_refused(tiny_model_dir: Path, tmp_path: Path, home: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=r"has no \.safetensors weights\. Other kinds of weight files are not loaded"):
        resolve_model(str(folder), None, home)


@pytest.mark.parametrize(
    "name",
    ["no-such-folder", " ", "/no/such/folder", "two words/x", "a/b/c", "../x", "org/", "org/-name", "a--b/c"]
    + ["org/name..x", "org/name.git", "org/" + "n" * 97, "org/n\u00e4me"],
)
def test_name_that_is_no_model_is_refused_with_what_is_expected(name: str, home: Path, hub: Any) -> None:
    with pytest.raises(ModelError, match="expected starter, a Hub id such as .*, or a local folder"):
        resolve_model(name, None, home)
    assert hub.asked == []


def test_hub_that_cannot_be_reached_is_said(home: Path, empty_hub_cache: Path) -> None:
    """`HF_HUB_OFFLINE=1`, which the tests set."""
    expected = "org/name cannot be fetched because HF_HUB_OFFLINE is set.*try again, or use `starter`"
    with pytest.raises(ModelError, match=expected):
        resolve_model("org/name", None, home)


def test_hub_that_refuses_the_connection_is_said(home: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="The Hugging Face Hub could not be reached, so org/name was not fetched"):
        resolve_model("org/name", None, home)


def test_downloaded_model_is_found_without_the_hub(home: Path, empty_hub_cache: Path) -> None:
    put_in_cache(empty_hub_cache, "org/name", SHA)
    ref = resolve_model("org/name", None, home)
    assert ref == ModelRef("org/name", "org/name", SHA, "Hugging Face Hub")
    assert ref.public_id == "org/name"


def test_downloaded_branch_is_found_without_the_hub(home: Path, empty_hub_cache: Path) -> None:
    put_in_cache(empty_hub_cache, "org/name", SHA, ref="v2")
    assert resolve_model("org/name", "v2", home).revision == SHA
    with pytest.raises(ModelError, match="cannot be fetched because HF_HUB_OFFLINE is set"):
        resolve_model("org/name", None, home)


def test_hub_model_is_recorded_at_its_commit(home: Path, hub: Any) -> None:
    hub.add_model("org/name", SHA)
    ref = resolve_model("org/name", None, home)
    assert ref == ModelRef("org/name", "org/name", SHA, "Hugging Face Hub")
    files = {"pretrained_model_name_or_path": "org/name", "revision": SHA, "token": None}
    assert model_files(ref, home) == files


def test_revision_is_asked_for_and_resolved(home: Path, hub: Any) -> None:
    hub.add_model("org/name", "f" * 40)
    hub.replies["/api/models/org/name/revision/v2"] = (200, {**hub.replies["/api/models/org/name"][1], "sha": SHA}, {})
    assert resolve_model("org/name", "v2", home).revision == SHA


def test_unknown_repository_is_said(home: Path, hub: Any) -> None:
    with pytest.raises(ModelError, match="has no model org/nothing. Check the spelling; if it is private, log in"):
        resolve_model("org/nothing", None, home)


def test_unknown_revision_is_said(home: Path, hub: Any) -> None:
    hub.add_model("org/name", SHA)
    hub.replies["/api/models/org/name/revision/v9"] = (404, {}, {"X-Error-Code": "RevisionNotFound"})
    with pytest.raises(ModelError, match="org/name has no revision 'v9'"):
        resolve_model("org/name", "v9", home)


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_gated_repository_asks_for_a_login(gated: str, home: Path, hub: Any) -> None:
    hub.add_model("org/gated", SHA, gated=gated)
    hub.replies["/api/models/org/gated/auth-check"] = (403, {}, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(ModelError, match="Accept its terms at huggingface.co/org/gated, then log in"):
        resolve_model("org/gated", None, home)


def test_gated_repository_with_access_is_found(home: Path, hub: Any) -> None:
    hub.add_model("org/gated", SHA, gated="auto")
    assert resolve_model("org/gated", None, home).revision == SHA


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_answer_of_the_hub_that_is_an_error_is_passed_on_with_its_number(status: int, home: Path, hub: Any) -> None:
    hub.replies["/api/models/org/name"] = (status, {}, {})
    with pytest.raises(ModelError, match=rf"(refused|too busy to serve) org/name .*\(?status {status}\)") as caught:
        resolve_model("org/name", None, home)
    assert "\n" not in str(caught.value)


def test_repository_that_is_no_transformers_model_is_refused(home: Path, hub: Any) -> None:
    hub.add_model("org/gguf", SHA, files=("model.gguf",))
    with pytest.raises(ModelError, match="org/gguf is not a transformers model: it has no config.json"):
        resolve_model("org/gguf", None, home)


def test_starter_is_the_hubs_when_the_hub_answers(home: Path, hub: Any) -> None:
    hub.add_model(STARTER_HUB_ID, SHA)
    assert resolve_model("starter", None, home) == ModelRef("starter", STARTER_HUB_ID, SHA, "Hugging Face Hub")


def test_starter_is_the_package_when_the_hub_cannot_be_reached(home: Path, empty_hub_cache: Path) -> None:
    ref = resolve_model("starter", None, home)
    assert ref == ModelRef("starter", "starter", None, STARTER_SOURCE)
    assert ref.public_id == STARTER_HUB_ID


def test_starter_on_this_machine_needs_no_look_at_the_hub(home: Path, hub: Any) -> None:
    (home / "models" / "starter").mkdir(parents=True)
    (home / "models" / "starter" / "config.json").write_text("{}")
    ref = resolve_model("starter", None, home)
    assert (ref.location, hub.asked) == ("starter", [])
    assert model_files(ref, home) == {"pretrained_model_name_or_path": str(home / "models" / "starter")}
