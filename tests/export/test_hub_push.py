"""Pushing: what arrives, what does not, and what is said when it cannot. Against a stand-in for the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from sft_app.errors import AccessError, AppError, ExportError
from sft_app.export.adapter import Files, adapter_files
from sft_app.export.hub_push import (
    PushResult,
    PushTarget,
    check_name,
    open_repository,
    push_files,
    push_run,
    visibility_warning,
)
from sft_app.export.merged import follow, merge_steps
from sft_app.runs.folder import Run
from tests.commands import assert_one_clear_line
from tests.export.hub_stand_in import GOOD_TOKEN, READ_TOKEN, PushHub
from tests.export.run_folders import make_run as make_folder

MINE = PushTarget("ann/voice")


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> Run:
    """A run of the tiny model with an adapter."""
    return request.getfixturevalue("make_run")(name="Tiny").run


def test_an_adapter_arrives_whole_private_and_in_one_commit(hub: PushHub, run: Run) -> None:
    shares: list[float] = []
    pushed = push_run(run, MINE, on_progress=shares.append)
    held = hub.get("ann/voice")
    assert (held.private, len(held.commits)) == (True, 1)
    assert (pushed.url, pushed.private, pushed.notes) == (f"{hub.endpoint}/ann/voice", True, ())
    weights = held.files["adapter_model.safetensors"]
    assert weights == (run.adapter_dir / "adapter_model.safetensors").read_bytes()
    assert {"adapter_config.json", "tokenizer.json", "README.md", "settings.json"} < held.files.keys()
    assert '"ann/voice")' in ModelCard(held.files["README.md"].decode()).text
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_data_is_sent_only_when_asked_for(hub: PushHub, run: Run) -> None:
    push_run(run, MINE)
    assert not any("jsonl" in name for name in hub.get("ann/voice").files)
    push_run(run, MINE, include_data=True)
    files = hub.get("ann/voice").files
    assert files["data/train.jsonl"] == run.train_file.read_bytes()
    assert files["data/heldout.jsonl"] == run.heldout_file.read_bytes()


def test_a_name_alone_is_ones_own(hub: PushHub, run: Run) -> None:
    assert push_run(run, PushTarget("voice")).repo == "ann/voice"
    assert ("model", "ann/voice") in hub.repositories


def test_a_token_that_is_given_goes_before_that_of_the_machine(hub: PushHub, run: Run) -> None:
    hub.users["hf_visitorsOwn12345"] = "bo"
    assert push_run(run, PushTarget("voice", token="hf_visitorsOwn12345")).repo == "bo/voice"


def test_data_of_an_earlier_push_does_not_stay_beside_another(hub: PushHub, run: Run) -> None:
    push_run(run, MINE, include_data=True)
    push_run(run, MINE)
    assert not any(name.startswith("data/") for name in hub.get("ann/voice").files)


def test_a_run_may_be_named_as_a_part_of_the_hub(hub: PushHub, run: Run) -> None:
    assert push_run(run, PushTarget("models")).repo == "ann/models"
    with pytest.raises(ExportError, match="is not a valid repository name"):
        push_run(run, PushTarget("models/voice"))


def test_nothing_new_is_no_new_commit(hub: PushHub, run: Run) -> None:
    first = push_run(run, MINE)
    second = push_run(run, MINE)
    assert first.url == second.url and len(hub.get("ann/voice").commits) == 1 and len(hub.sent) == 1


@pytest.mark.parametrize("broken", ["POST /api/models/ann/voice/commit", "PUT /lfs"])
@pytest.mark.parametrize("status", [403, 503, 0])
def test_a_push_that_broke_goes_on_where_it_was(hub: PushHub, run: Run, broken: str, status: int) -> None:
    weights, more = run.adapter_dir / "adapter_model.safetensors", b"x" * 5_000_000
    files = {**adapter_files(run, "ann/voice"), "more.safetensors": more}
    first = f"PUT /lfs/{hash_of(weights.read_bytes())}" if broken == "PUT /lfs" else broken
    hub.fail(first, status, times=20)
    with pytest.raises(ExportError):
        push_to_mine(files)
    assert hub.get("ann/voice").commits == [] and len(hub.sent) == (1 if broken == "PUT /lfs" else 2)
    hub.failures.clear()
    push_to_mine(files)
    held = hub.get("ann/voice")
    assert sorted(hub.sent) == sorted(hash_of(content) for content in (weights.read_bytes(), more))  # each once
    assert len(held.commits) == 1 and held.files["more.safetensors"] == more


def push_to_mine(files: Files) -> PushResult:
    with open_repository(MINE) as repository:
        return push_files(repository, files, "adapter_config.json", "Two files")


def hash_of(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_a_repository_that_everyone_reads_is_not_written_by_a_private_push(hub: PushHub, run: Run) -> None:
    hub.add("ann/voice", private=False)
    with pytest.raises(ExportError, match="ann/voice already exists and is public. Choose public if everyone may"):
        push_run(run, MINE)
    assert hub.sent == [] and hub.get("ann/voice").commits == []
    assert push_run(run, PushTarget("ann/voice", private=False)).private is False


def test_a_public_push_into_a_private_repository_says_that_it_stays_so(hub: PushHub, run: Run) -> None:
    push_run(run, MINE)
    pushed = push_run(run, PushTarget("ann/voice", private=False))
    assert pushed.private and "was already private and stays private" in pushed.notes[0]


def test_a_repository_with_something_else_is_left_alone(hub: PushHub, run: Run) -> None:
    hub.add("ann/voice", **{"model.safetensors": b"x", "config.json": b"{}"})
    with pytest.raises(ExportError, match=r"contains something else \(config.json\). Choose another name"):
        push_run(run, MINE)
    assert hub.get("ann/voice").commits == []


def test_a_full_fine_tune_is_pushed_as_a_model(hub: PushHub, make_run: Callable[..., Any]) -> None:
    push_run(make_run(method="full").run, MINE)
    held = hub.get("ann/voice")
    assert {"model.safetensors", "config.json"} < held.files.keys() and len(held.commits) == 1
    assert ModelCard(held.files["README.md"].decode()).data.library_name == "transformers"


def test_a_merged_model_is_pushed_with_what_the_check_found(
    hub: PushHub, make_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = make_run(max_new_tokens=2).run
    merged = follow(merge_steps(run, tmp_path / "model", prompts=1), lambda step: None)
    (merged.folder / "model-q8_0.gguf").write_bytes(b"large")
    hub.add("ann/voice", **{"config.json": b"{}", "model-00001-of-00002.safetensors": b"old", "notes.md": b"mine"})
    push_run(run, MINE, merged=merged)
    held = hub.get("ann/voice")
    assert "notes.md" in held.files and not {"model-00001-of-00002.safetensors", "model-q8_0.gguf"} & held.files.keys()
    assert held.files["model.safetensors"] == (merged.folder / "model.safetensors").read_bytes()
    assert {"config.json", "tokenizer.json", "fidelity.json", "settings.json"} < held.files.keys()
    card = ModelCard(held.files["README.md"].decode())
    assert card.data.library_name == "transformers" and "adapter_config.json" not in held.files
    assert 'from_pretrained("ann/voice")' in card.text and "predicts the held-out answers" in card.text
    with pytest.raises(ExportError, match="contains something else"):  # no adapter on top of it
        push_run(run, MINE)
    doubtful = replace(merged, fidelity=replace(merged.fidelity, merged_loss=99.0))
    assert "worse than the base model with the adapter" in push_run(run, MINE, merged=doubtful).notes[0]


def test_a_run_without_an_adapter_asks_for_nothing(hub: PushHub, home: Path) -> None:
    run = make_folder(home)
    with pytest.raises(ExportError, match=f"Run {run.id} has no adapter to push"):
        push_run(run, MINE)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "Enter a repository name"),
        ("ann/my voice", "is not a valid repository name"),
        ("ann//voice", "is not a valid repository name"),
        ("ann/a--b", "is not a valid repository name"),
        ("ann/vöice", "is not a valid repository name"),
        ("datasets/voice", "is not a valid repository name"),
        ("../voice", "is not a valid repository name"),
        ("a" * 97, "is not a valid repository name"),
        ("https://huggingface.co/ann/voice", "a web address or a token"),
        ("hf_abcdefghijklmnop", "a web address or a token"),
    ],
)
def test_a_name_that_cannot_be_one_is_told_before_any_request(hub: PushHub, run: Run, name: str, told: str) -> None:
    with pytest.raises(ExportError, match=told) as caught:
        push_run(run, PushTarget(name))
    assert hub.requests == [] and "hf_abc" not in str(caught.value) and "USER/NAME" in str(caught.value)


def test_names_are_taken_without_their_spaces() -> None:
    assert check_name(" ann/My_voice.v1 ") == "ann/My_voice.v1"


def test_nobody_logged_in_is_told_what_to_do(hub: PushHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        AccessError, match="You are not logged in to the Hub. To push, log in with `hf auth login`, or set HF_TOKEN"
    ):
        push_run(run, MINE)
    with pytest.raises(AccessError, match="sign in on this page first"):
        push_run(run, PushTarget("ann/voice", token=False))
    assert hub.requests == []


REFUSALS = [
    ("POST /api/repos/create", 401, "", "rejected your login for ann/voice"),
    ("POST /api/repos/create", 402, "PRO plan needed", "has no room for ann/voice, or requires a paid plan"),
    ("POST /api/repos/create", 403, "No rights", "Your login has no write access to ann/voice (No rights"),
    ("POST /api/repos/create", 400, "Name is reserved", "refused ann/voice with status 400 (Name is reserved"),
    ("POST /api/repos/create", 500, "Oops", "a problem of its own (status 500). Push again"),
    ("POST /api/models/ann/voice/preupload", 404, "Gone", "cannot find ann/voice"),
    ("batch", 403, "Private repository storage limit reached", "has no room for ann/voice"),
    ("PUT", 413, "", "has no room for ann/voice"),
    ("POST /api/models/ann/voice/commit", 409, "Busy", "was changed at the same time"),
    ("POST /api/models/ann/voice/commit", 429, "", "(status 429). Push again in a few minutes"),
    ("POST /api/models/ann/voice/commit", 504, "", "too busy or has a problem of its own (status 504)"),
    (
        "POST /api/models/ann/voice/commit",
        0,
        "",
        "could not be reached, so ann/voice was not pushed. Check the connection",
    ),
]


@pytest.mark.parametrize(("request_", "status", "message", "told"), REFUSALS)
def test_what_the_hub_refuses_is_one_sentence(
    hub: PushHub, run: Run, request_: str, status: int, message: str, told: str
) -> None:
    hub.fail(request_, status, f"{message} Bearer {GOOD_TOKEN}" if message else "", times=9)
    with pytest.raises(ExportError, match=re.escape(told)) as caught:
        push_run(run, MINE)
    assert "\n" not in str(caught.value) and GOOD_TOKEN not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_somebody_elses_repository_is_told(hub: PushHub, run: Run) -> None:
    hub.users["hf_other00000"] = "bo"
    hub.add("bo/voice", private=False)
    for name in ("bo/voice", "bo/new"):
        with pytest.raises(ExportError, match=f"Your login has no write access to {name}"):
            push_run(run, PushTarget(name, private=False))


def test_a_token_that_only_reads_is_told(hub: PushHub, run: Run) -> None:
    with pytest.raises(ExportError, match=r"has no write access to ann/voice \(This token has no right to write\)"):
        push_run(run, PushTarget("ann/voice", token=READ_TOKEN))


@pytest.mark.parametrize("token", ["hf_wrong0123456789", "hf_line\nbreak012345", "hf_ünïcode012345"])
@pytest.mark.parametrize("name", ["voice", "ann/voice"])
def test_a_bad_token_is_told_and_never_quoted(hub: PushHub, run: Run, token: str, name: str) -> None:
    with pytest.raises(AppError, match="rejected your login|contains invalid characters") as caught:
        push_run(run, PushTarget(name, token=token))
    assert token not in str(caught.value) and token not in repr(PushTarget(name, token=token))


def test_no_network_is_told(hub: PushHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match="could not be reached, so ann/voice was not pushed"):
        push_run(run, MINE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match="HF_HUB_OFFLINE is set, so nothing can be pushed"):
        push_run(run, MINE)


def test_a_card_that_the_hub_does_not_take_is_told_before_anything_is_sent(hub: PushHub, run: Run) -> None:
    files = {**adapter_files(run, "ann/voice"), "README.md": b"---\nbase_model: nowhere\n---\n"}
    with pytest.raises(ExportError, match='ann/voice was not pushed: Invalid metadata in README.md. - "base_model"'):
        push_to_mine(files)
    assert hub.sent == []


@pytest.mark.parametrize(
    ("private", "data", "told"),
    [
        (True, False, ""),
        (True, True, "Everyone with access to the repository can read"),
        (False, False, "Everyone"),
        (False, True, "Everyone"),
    ],
)
def test_the_warning_says_who_will_read_what(private: bool, data: bool, told: str) -> None:
    warning = visibility_warning(private, data)
    assert warning.startswith(told) and bool(warning) == bool(told) and ("data" in warning) == data


def test_the_command_pushes_and_prints_one_document(
    hub: PushHub, cli: Any, make_run: Callable[..., Any], home: Path
) -> None:
    make_run(home=home, name="Tiny")
    ended = cli("push", "latest", "--repo", "voice", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json["repo"] == "ann/voice" and ended.json["private"] is True
    assert ended.json["url"] == f"{hub.endpoint}/ann/voice" and len(ended.json["commit"]) == 40
    ended = cli("push", "latest", "--repo", "ann/open", "--public", "--include-data")
    assert ended.status == 0 and f"{hub.endpoint}/ann/open" in ended.out
    assert "Everyone will be able to read" in ended.err and "data" in ended.err
    assert json.loads(hub.get("ann/open").files["settings.json"])["name"] == "Tiny"
    assert "data/train.jsonl" in hub.get("ann/open").files and not hub.get("ann/open").private


def test_the_command_tells_errors_in_one_line(
    hub: PushHub, cli: Any, make_run: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(home=home)
    assert_one_clear_line(cli("push", "latest", "--repo", "bo/voice"), "has no write access to bo/voice")
    monkeypatch.delenv("HF_TOKEN")
    assert_one_clear_line(cli("push", "latest", "--repo", "voice"), "hf auth login")
