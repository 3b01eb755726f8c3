"""The app as a Space: what is sent, what is not, and the small one that compares an adapter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard

from sft_app.errors import AccessError, ExportError, ModelError
from sft_app.export.hub_push import PushTarget
from sft_app.export.space import comparison_readme, project_files, push_app_as_space
from sft_app.hosting import Hosting, detect_hosting
from sft_app.models import catalog
from sft_app.runtime.environment import PROJECT_DIR
from sft_app.settings import EXAMPLE_DATA
from tests.commands import assert_one_clear_line
from tests.export.hub_stand_in import GOOD_TOKEN, Held, PushHub
from tests.test_readme import COLOURS, SPACE_KEYS

MINE = PushTarget("ann/compare")
CONFIG = {"base_model_name_or_path": "org/base", "peft_type": "LORA"}


@pytest.fixture
def adapter(hub: PushHub) -> Held:
    """A public adapter that somebody has published."""
    return hub.add("bo/voice", private=False, **{"adapter_config.json": json.dumps(CONFIG).encode()})


def tracked_files() -> set[str]:
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def build_the_page(held: Held, folder: Path) -> None:
    """With the files of the Space and nothing else of this project."""
    for name, content in held.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    code = "import app; from pathlib import Path; from sft_app.ui.page import build_page; build_page(Path('home'))"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.'); {code}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_app_arrives_in_one_commit_and_can_start(hub: PushHub, tmp_path: Path) -> None:
    pushed = push_app_as_space(MINE)
    held = hub.get("ann/compare", "space")
    assert (pushed.url, pushed.private, len(held.commits)) == (f"{hub.endpoint}/spaces/ann/compare", True, 1)
    assert held.variables == {}
    build_the_page(held, tmp_path)


def test_nothing_is_sent_that_is_not_the_apps(hub: PushHub) -> None:
    names = set(project_files())
    assert not [name for name in names if name.startswith(("workspace", ".", "tests", "bench")) or ".pyc" in name]
    assert {"app.py", "requirements.txt", "README.md", "LICENSE", "sft_app/ui/page.css"} < names
    assert {name for name in tracked_files() if name.startswith(("sft_app/", "examples/"))} <= names
    assert {name for name in names if name.startswith("docs/")} == set(
        re.findall(r"\]\((docs/[^)]+)\)", (PROJECT_DIR / "README.md").read_text())
    )


def test_a_comparison_space_shows_one_adapter(hub: PushHub, adapter: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = push_app_as_space(PushTarget("ann/compare", private=False), "bo/voice")
    held = hub.get("ann/compare", "space")
    assert (pushed.private, pushed.notes, len(held.commits)) == (False, (), 1)
    assert held.variables == {"SFT_APP_MODE": "demo", "SFT_APP_ADAPTER": "bo/voice"}
    hosting = detect_hosting({**held.variables, "SPACE_ID": "ann/compare"})
    assert (hosting.mode, hosting.adapter, type(hosting)) == ("demo", "bo/voice", Hosting)
    assert {name for name in held.files if name.startswith(("examples/", "docs/"))} == {EXAMPLE_DATA}
    card = SpaceCard(held.files["README.md"].decode())
    assert card.data.models == ["bo/voice", "org/base"] and "[bo/voice](https://huggingface.co/bo/voice)" in card.text


@pytest.mark.parametrize("base", ["org/base", "tiny", "/home/bo/tiny"])
def test_its_front_matter_is_valid(base: str) -> None:
    values = SpaceCard(comparison_readme("bo/" + "v" * 90, base)).data.to_dict()
    assert values["hf_oauth"] is True and "read-repos" in values["hf_oauth_scopes"]  # for a private adapter
    assert set(values) <= SPACE_KEYS and {values["colorFrom"], values["colorTo"]} <= COLOURS
    assert len(values["short_description"]) <= 60
    own = SpaceCard.load(PROJECT_DIR / "README.md").data.to_dict()
    for key in ("sdk", "sdk_version", "python_version", "app_file"):
        assert values[key] == own[key]
    assert ("org/base" in values["models"]) == (base == "org/base")


def test_a_comparison_space_can_start(hub: PushHub, adapter: Held, tmp_path: Path) -> None:
    push_app_as_space(MINE, "bo/voice")
    build_the_page(hub.get("ann/compare", "space"), tmp_path)


def test_a_second_push_drops_code_that_is_gone_and_nothing_else(hub: PushHub) -> None:
    push_app_as_space(MINE)
    held = hub.get("ann/compare", "space")
    held.files |= {"sft_app/old.py": b"x", "my_notes.txt": b"x"}
    push_app_as_space(MINE)
    assert "sft_app/old.py" not in held.files and "my_notes.txt" in held.files and len(held.commits) == 2


def test_the_whole_app_takes_the_place_of_a_comparison(hub: PushHub, adapter: Held) -> None:
    push_app_as_space(MINE, "bo/voice")
    held = hub.get("ann/compare", "space")
    held.variables["MY_OWN"] = "1"
    push_app_as_space(MINE)
    assert held.variables == {"MY_OWN": "1"}
    held.variables["SFT_APP_MODE"] = "demo"  # set by its owner, for an app that shows no single adapter
    push_app_as_space(MINE)
    assert held.variables == {"MY_OWN": "1", "SFT_APP_MODE": "demo"}


def test_another_space_is_not_written_over(hub: PushHub) -> None:
    hub.add("ann/compare", kind="space", **{"app.py": b"print('mine')"})
    with pytest.raises(ExportError, match=r"contains something else \(app.py\)"):
        push_app_as_space(MINE)
    assert hub.get("ann/compare", "space").commits == []


def test_what_is_no_adapter_makes_no_space(hub: PushHub) -> None:
    hub.add("ann/model", private=False, **{"config.json": b"{}"})
    hub.add("ann/odd", private=False, **{"adapter_config.json": b"[]"})
    for name, told in (
        ("ann/model", "is not an adapter: it has no adapter_config.json"),
        ("ann/odd", "does not name its base model"),
        ("ann/none", "The Hub has no adapter ann/none. Check the spelling"),
        ("../x", "is not a valid repository name"),
    ):
        with pytest.raises(ExportError, match=told):
            push_app_as_space(MINE, name)
    assert ("space", "ann/compare") not in hub.repositories


def test_an_adapter_as_large_as_a_model_is_not_fetched(hub: PushHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can name one to a Space, whose disk is also that of the runs."""
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 2_000_000}
    hub.add("bo/huge", private=False, **files)
    monkeypatch.setattr(catalog, "MAX_ADAPTER_GIB", 0.001)
    with pytest.raises(ModelError, match=r"bo/huge is 0\.0 GiB, but an adapter can be at most 0\.001 GiB"):
        catalog.fetch_adapter("bo/huge")
    assert not any("resolve" in request for request in hub.requests)


def test_a_private_adapter_is_told(hub: PushHub) -> None:
    hub.add("ann/mine", **{"adapter_config.json": json.dumps(CONFIG).encode()})
    assert "ann/mine is private" in push_app_as_space(MINE, "ann/mine").notes[0]


def test_a_push_that_broke_goes_on(hub: PushHub) -> None:
    hub.fail("POST /api/spaces/ann/compare/commit", 500)
    with pytest.raises(ExportError, match="Push again in a few minutes"):
        push_app_as_space(MINE)
    assert push_app_as_space(MINE).private and len(hub.get("ann/compare", "space").commits) == 1


def test_what_the_hub_refuses_is_told(hub: PushHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fail("POST /api/repos/create", 402, f"Subscribe to PRO {GOOD_TOKEN}")
    with pytest.raises(ExportError, match=r"requires a paid plan for it \(Subscribe to PRO hf_…\)"):
        push_app_as_space(MINE)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AccessError, match="You are not logged in to the Hub"):
        push_app_as_space(MINE)


def test_an_app_without_its_folder_says_so(tmp_path: Path) -> None:
    shutil.copytree(PROJECT_DIR / "sft_app", tmp_path / "sft_app", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.raises(ExportError, match="app.py is missing from .*\. Start the app from its own folder"):
        project_files(tmp_path)


def test_the_command_makes_a_space(hub: PushHub, cli: Any, adapter: Held) -> None:
    ended = cli("push-space", "--repo", "compare", "--adapter", "bo/voice", "--public", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json["url"] == f"{hub.endpoint}/spaces/ann/compare" and ended.json["private"] is False
    assert_one_clear_line(cli("push-space", "--repo", "a b"), "is not a valid repository name")
