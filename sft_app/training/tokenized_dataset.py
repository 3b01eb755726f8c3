"""Tokenize a run's conversations into ids and labels.

The training rows go to a file in the run folder, so that memory holds only one batch, whatever the size of the data.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow
from datasets import Dataset
from filelock import FileLock

from sft_app.data.chat_templates import can_think, is_thinking
from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import NO_THINKING, RenderedConversation, render_conversation
from sft_app.data.tool_templates import WRITTEN_AS_TEXT, WRITTEN_NATIVELY
from sft_app.errors import DataError
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, put_on_disk, write_json_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS_PER_BATCH = 100
MAX_LOGGED_REFUSALS = 10
COUNTS_FILE = "train.json"
"""How many rows have tools in which form, and thoughts; beside the rows."""
SCHEMA = pyarrow.schema([(name, pyarrow.list_(pyarrow.int32())) for name in ("input_ids", "labels")])
logger = logging.getLogger(__name__)


def load_tokenized_dataset(
    run: Run, tokenizer: PreTrainedTokenizerBase, max_length: int, block_size: int | None = None
) -> Dataset:
    """Load the training rows, columns `input_ids` and `labels`, which are read from disk as needed.

    A row is a conversation of at most `max_length` tokens, or a block of running text, of which nothing is cut. The
    file is written once; a resumed run and the run's other processes reuse it. It needs no cache outside the run
    folder.

    Raises: DataError as `tokenize_file`.
    """
    file = run.tokens_dir / "train.arrow"
    file.parent.mkdir(exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            counts: Counter[str] = Counter()
            _write_rows(file, _training_rows(run.train_file, tokenizer, max_length, block_size, counts))
            write_json_atomically(file.with_name(COUNTS_FILE), counts)
    return Dataset.from_file(str(file))


def tokenize_file(file: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[RenderedConversation]:
    """Tokenize a file's conversations, skipping those the chat template refuses and logging them at the end.

    Raises:
        DataError: at the end, if all are refused or no answer fits within `max_length`.
    """
    refusals: list[str] = []
    refused = rendered = trained = 0
    for row in iterate_jsonl(file):
        try:
            conversation = render_conversation(tokenizer, make_conversation(row["messages"]), max_length)
        except DataError as error:
            refused += 1
            if refused <= MAX_LOGGED_REFUSALS:
                refusals.append(f"{file.name}, row {row.get('row', '?')}: {error}")
            continue
        rendered += 1
        trained += conversation.trained > 0
        yield conversation
    if refused and not rendered:
        raise DataError(refusals[0])
    if refused:
        logger.warning("%d conversations were skipped. %s", refused, "; ".join(refusals))
    if not trained:
        raise DataError(f"No answer in {file.name} begins within max_length {max_length}. Raise max_length.")


def describe_rows(run: Run, tokenizer: PreTrainedTokenizerBase) -> str:
    """Say how the rows' tools are written, and where their thoughts and Think first do not agree; "" if all is usual.

    The rows were counted when they were tokenized.
    """
    try:
        counts = Counter(json.loads((run.tokens_dir / COUNTS_FILE).read_bytes()))
    except FileNotFoundError:  # tokenized by an earlier version, or not on this machine
        return ""
    return " ".join(filter(None, [_tools_sentence(counts), *_thought_sentences(counts, tokenizer)]))


def _tools_sentence(counts: Counter[str]) -> str:
    native, text = counts["native"], counts["text"]
    if native and text:
        return (
            f"Tool definitions and calls are written as the model's chat template writes them in {native} rows, and as "
            f"text in {text}, where the template would leave a part of them out."
        )
    return WRITTEN_NATIVELY if native else WRITTEN_AS_TEXT if text else ""


def _thought_sentences(counts: Counter[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    rows, thoughts, lost, untrained = (counts[key] for key in ("rows", "thoughts", "lost", "untrained"))
    if lost:
        so = f", so {untrained} of those answers are not trained" if untrained else ""
        yield f"The chat template leaves out {lost} thought{'s' if lost > 1 else ''} of answers{so}."
    if is_thinking(tokenizer):
        if not can_think(tokenizer):
            yield NO_THINKING
        elif thoughts < rows:
            yield (
                f"Think first is on, but {rows - thoughts} of {rows} rows have no thought that is written, so the "
                "model also learns to answer without one."
            )
    elif thoughts and can_think(tokenizer):
        yield (
            f"{thoughts} of {rows} rows have a thought, but Think first is off, so the model is later asked for "
            "answers without one. Turn on Think first (enable_thinking)."
        )


def _training_rows(
    file: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, block_size: int | None, counts: Counter[str]
) -> Iterator[dict[str, list[int]]]:
    if block_size is not None:
        return cut_into_blocks((text.input_ids for text in tokenize_file(file, tokenizer, sys.maxsize)), block_size)
    kept = (conversation for conversation in tokenize_file(file, tokenizer, max_length) if conversation.trained > 0)
    return (_counted(conversation, counts).as_training_row() for conversation in kept)


def _counted(conversation: RenderedConversation, counts: Counter[str]) -> RenderedConversation:
    if conversation.is_chat:
        counts["rows"] += 1
        counts["thoughts"] += conversation.has_thought
        counts["lost"] += conversation.lost_thoughts + conversation.is_last_thought_lost
        counts["untrained"] += conversation.untrained_answers
        counts[conversation.tools] += 1
    return conversation


def _write_rows(file: Path, rows: Iterator[dict[str, list[int]]]) -> None:
    """Write the rows to a file that appears only when complete."""
    draft = file.with_suffix(".draft")
    with pyarrow.OSFile(str(draft), "wb") as sink, pyarrow.ipc.new_stream(sink, SCHEMA) as stream:
        while some := list(islice(rows, ROWS_PER_BATCH)):
            stream.write_batch(pyarrow.RecordBatch.from_pylist(some, schema=SCHEMA))
    put_on_disk(draft)
    os.replace(draft, file)


def cut_into_blocks(texts: Iterable[list[int]], block_size: int) -> Iterator[dict[str, list[int]]]:
    """Cut texts into rows of `block_size` ids, each id its own label. The last row may be shorter.

    A last row of one token is dropped, since nothing precedes the token to predict it from.
    """
    rest: list[int] = []
    for ids in texts:
        rest += ids
        full_length = len(rest) - len(rest) % block_size
        yield from (_row(rest[start : start + block_size]) for start in range(0, full_length, block_size))
        rest = rest[full_length:]
    if len(rest) > 1:
        yield _row(rest)


def _row(ids: list[int]) -> dict[str, list[int]]:
    return {"input_ids": ids, "labels": list(ids)}
