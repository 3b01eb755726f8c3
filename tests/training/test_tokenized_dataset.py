"""The training rows on disk: what the trainer gets of them, and that they are made once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import render_conversation, training_rows
from sft_app.errors import DataError
from sft_app.runs.folder import Run
from sft_app.runtime.files import read_jsonl, write_jsonl_atomically
from sft_app.training import tokenized_dataset as module
from sft_app.training.tokenized_dataset import describe_rows, load_tokenized_dataset, tokenize_file

Make = Callable[..., Run]
PROJECT = Path(__file__).resolve().parents[2]


def row(number: int, answer: str, question: str = "Hi") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"row": number, "messages": messages}


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_rows_are_those_of_the_conversations_in_their_order(
    make_run: Make, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 7)
    run = make_run()
    conversations = [make_conversation(found["messages"]) for found in read_jsonl(run.train_file)]
    rows = load_tokenized_dataset(run, tokenizer, 60)
    assert list(rows) == training_rows(render_conversation(tokenizer, found, 60) for found in conversations)
    assert len(rows) == 20
    assert rows[3] == list(rows)[3] and rows.column_names == ["input_ids", "labels"]


def test_rows_are_written_once_and_into_the_run_only(
    make_run: Make, tokenizer: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    run = make_run()
    before = files_below(tmp_path)
    first = list(load_tokenized_dataset(run, tokenizer, 128))
    made = {path.relative_to(run.path.relative_to(tmp_path)) for path in files_below(tmp_path) - before}
    assert made == {Path("tokens"), Path("tokens/train.arrow"), Path("tokens/train.json"), Path("tokens/train.lock")}
    run.train_file.unlink()
    assert list(load_tokenized_dataset(run, tokenizer, 128)) == first


def test_half_written_rows_are_written_anew(make_run: Make, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, whole = make_run(), make_run()
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load_tokenized_dataset(run, tokenizer, 128)
    os.truncate(run.tokens_dir / "train.draft", 100)
    assert list(load_tokenized_dataset(run, tokenizer, 128)) == list(load_tokenized_dataset(whole, tokenizer, 128))


THOUGHT = "<think>\nHm.\n</think>\n\nYes"


def described(run: Run, tokenizer: Any, rows: list[dict[str, Any]]) -> str:
    write_jsonl_atomically(run.train_file, rows)
    load_tokenized_dataset(run, tokenizer, 10_000)
    return describe_rows(run, tokenizer)


@pytest.mark.parametrize(
    ("think", "answers", "said"),
    [
        (False, ["Yes", THOUGHT, THOUGHT], "2 of 3 rows have a thought, but Think first is off"),
        (True, ["Yes", THOUGHT, THOUGHT], "Think first is on, but 1 of 3 rows have no thought"),
        (True, [THOUGHT], ""),
        (False, ["Yes"], ""),
    ],
)
def test_rows_that_do_not_agree_with_think_first_are_counted(
    make_run: Make, think: bool, answers: list[str], said: str
) -> None:
    from tests.chat_styles import THINKING
    from tests.conftest import make_character_tokenizer

    tokenizer = make_character_tokenizer(THINKING)
    tokenizer.enable_thinking = think
    text = described(make_run(), tokenizer, [row(number, answer) for number, answer in enumerate(answers)])
    assert text.startswith(said) and bool(text) == bool(said)


def test_lost_thoughts_and_both_forms_of_tools_are_counted(make_run: Make) -> None:
    from tests.conftest import make_character_tokenizer
    from tests.data.test_tool_templates import AS_TEXT, ROW

    dropping = AS_TEXT.replace(
        "message.content }}", "('' if message.tool_calls else message.content.split('</think>')[-1]) }}"
    )
    spoken = [*ROW[:2], {**ROW[2], "content": "A moment."}, *ROW[3:]]
    rows = [{"messages": ROW}, {"messages": ROW}, {"messages": spoken}, row(4, THOUGHT)]
    text = described(make_run(), make_character_tokenizer(dropping), rows)
    assert "as the model's chat template writes them in 2 rows, and as text in 1, where" in text
    assert text.endswith("The chat template leaves out 1 thought of answers.")
    assert described(make_run(), make_character_tokenizer(AS_TEXT), rows).endswith("template writes them.")


def test_rows_tokenized_by_an_earlier_version_say_nothing(make_run: Make, tokenizer: Any) -> None:
    assert describe_rows(make_run(), tokenizer) == ""


def test_refused_conversations_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.conftest import CHATML, make_character_tokenizer

    refusing = make_character_tokenizer(
        "{% if messages[0]['content'] == 'No' %}{{ raise_exception('not this') }}{% endif %}" + CHATML
    )
    file = tmp_path / "train.jsonl"
    write_jsonl_atomically(file, [row(i, "Yes", "No" if i % 2 else "Hi") for i in range(24)])
    with caplog.at_level(logging.WARNING):
        assert len(list(tokenize_file(file, refusing, 128))) == 12
    assert "12 conversations were skipped. train.jsonl, row 1: " in caplog.text
    assert caplog.text.count("not this") == module.MAX_LOGGED_REFUSALS
    write_jsonl_atomically(file, [row(i, "Yes", "No") for i in range(3)])
    with pytest.raises(DataError, match="^train.jsonl, row 0: .*not this"):
        list(tokenize_file(file, refusing, 128))


def test_answers_that_do_not_fit_are_told_and_leave_no_rows(make_run: Make, tokenizer: Any) -> None:
    run = make_run()
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"^No answer in train\.jsonl begins within max_length 16\. Raise max_length\.$"
        ):
            load_tokenized_dataset(run, tokenizer, 16)


MEASURE = """
import resource, sys
from pathlib import Path
from sft_app.runs.folder import Run
from sft_app.training.tokenized_dataset import load_tokenized_dataset
from tests.conftest import make_character_tokenizer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = load_tokenized_dataset(Run(Path(sys.argv[1])), make_character_tokenizer(), 100_000)
assert len(rows) == 1000 and len(rows[999]["input_ids"]) > 4000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_holds_a_few_rows_only(tmp_path: Path) -> None:
    """4 million tokens: ids and labels as Python lists would take 64 MB and more."""
    run = Run(tmp_path)
    (tmp_path / "data").mkdir()
    write_jsonl_atomically(run.train_file, (row(i, "So it is. " * 400) for i in range(1000)))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) / 1024 < 40
