"""The README is true: a Space can be made of it, its commands work, its pictures are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
HURRY = ["--set", "max_steps=2", "--set", "heldout_max=8", "--set", "max_new_tokens=8", "--set", "max_length=512"]
# What the Hub accepts, from its Spaces configuration reference.
SPACE_KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license",
    "short_description", "suggested_hardware", "startup_duration_timeout", "pinned", "hf_oauth", "hf_oauth_scopes",
    "models", "datasets", "tags", "thumbnail",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def front_matter() -> dict[str, object]:
    return yaml.safe_load(README.split("---\n")[1])


def shell_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line]


def test_front_matter_is_valid_for_a_gradio_space() -> None:
    values = front_matter()
    assert set(values) <= SPACE_KEYS
    assert values["sdk"] == "gradio"
    assert {values["colorFrom"], values["colorTo"]} <= COLOURS
    assert len(str(values["short_description"])) <= 60
    assert (PROJECT / str(values["app_file"])).is_file()


def test_sdk_version_is_the_gradio_that_is_pinned() -> None:
    pinned = re.search(r"^gradio\[oauth\]==(\S+)$", (PROJECT / "requirements.txt").read_text(), flags=re.M)
    assert pinned and front_matter()["sdk_version"] == pinned.group(1)


def test_visitors_are_asked_for_no_more_than_pushing_and_gated_models_need() -> None:
    values = front_matter()
    assert values["hf_oauth"] is True
    assert values["hf_oauth_scopes"] == ["contribute-repos", "gated-repos"]


def test_python_of_the_space_is_one_that_zero_gpu_has_too() -> None:
    assert front_matter()["python_version"] == "3.12"


def test_every_picture_and_linked_file_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if "://" not in target and not (PROJECT / target).exists()] == []


def test_every_make_target_named_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`|^make (\w+)$", README, flags=re.M)):
        assert re.search(rf"^{target[0] or target[1]}:", makefile, flags=re.M), target


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/TRAINING.md"])
def test_every_path_that_a_document_names_exists(document: str) -> None:
    """Paths in backticks: of the project, or of `sft_app` with or without `.py`, perhaps with a name in the module."""
    text = (PROJECT / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z_]+/)+[A-Za-z_.]*)`", text)
    assert named

    def exists(name: str) -> bool:
        module = name.partition(".")[0]
        beginnings = (PROJECT, PROJECT / "sft_app")
        return any((base / one).exists() for base in beginnings for one in (name, f"{name}.py", f"{module}.py"))

    run_folder = (
        *("data/train.jsonl", "data/heldout.jsonl", "data/validation.jsonl", "data/general.jsonl", "data/replay.jsonl"),
        *("tokens/train.arrow", "checkpoints/", "adapter/", "runs/"),
    )
    home = ("models/", "uploads/", "datasets/", "exports/", "cleaned/", "workspace/")
    assert [name for name in named if name not in (*run_folder, *home) and not exists(name)] == []


def test_commands_work_as_written(tiny_model_dir: Path, home: Path, tmp_path: Path) -> None:
    """With a tiny model in the starter's place: what is tried are the commands."""
    (home / "models").mkdir()
    (home / "models" / "starter").symlink_to(tiny_model_dir)
    commands = [command for command in shell_commands() if command.startswith("python -m sft_app")]
    assert len(commands) >= 5
    for command in commands:
        words = [sys.executable, *shlex.split(command)[1:]]
        hurry = (
            HURRY
            if "train" in words
            else ["--max-new-tokens", "8"]
            if "compare" in words
            else ["--prompts", "1"]
            if "score" in words
            else []
        )
        done = subprocess.run(  # in a folder of its own, because some write files
            [*words, *hurry],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
