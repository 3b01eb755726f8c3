"""The run's conversations as token ids and labels. Those to train on go into a file of the run, so that memory holds
only the rows of a batch, however many there are."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset
from filelock import FileLock

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import RenderedConversation, render_conversation
from sft_app.errors import DataError
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, put_on_disk

ROWS_AT_ONCE = 100
REFUSALS_TOLD = 10
SCHEMA = pyarrow.schema([(name, pyarrow.list_(pyarrow.int32())) for name in ("input_ids", "labels")])
logger = logging.getLogger(__name__)


def token_rows(run: Run, tokenizer: Any, max_length: int, block_size: int | None = None) -> Dataset:
    """The training rows, columns `input_ids` and `labels`, read from disk as they are needed.

    One is a conversation of at most `max_length` tokens, or a block of all text, of which nothing is cut.

    Their file is written once; a resumed run and the other processes of a run find it. It needs no cache outside the
    run folder.

    Raises: DataError as `render_rows`.
    """
    file = run.tokens_dir / "train.arrow"
    file.parent.mkdir(exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            _write_rows(file, _rows(run.train_file, tokenizer, max_length, block_size))
    return Dataset.from_file(str(file))


def render_rows(file: Path, tokenizer: Any, max_length: int) -> Iterator[RenderedConversation]:
    """Conversations that the model's chat template refuses are left out, and told in the log at the end.

    Raises:
        DataError: at the end, when all are refused or none has an answer within `max_length`.
    """
    refusals: list[str] = []
    refused = rendered = trained = 0
    for row in iterate_jsonl(file):
        try:
            conversation = render_conversation(tokenizer, make_conversation(row["messages"]), max_length)
        except DataError as error:
            refused += 1
            if refused <= REFUSALS_TOLD:
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


def _rows(file: Path, tokenizer: Any, max_length: int, block_size: int | None) -> Iterator[dict[str, list[int]]]:
    if block_size is not None:
        return cut_into_blocks((text.input_ids for text in render_rows(file, tokenizer, sys.maxsize)), block_size)
    kept = (conversation for conversation in render_rows(file, tokenizer, max_length) if conversation.trained > 0)
    return (conversation.as_training_row() for conversation in kept)


def _write_rows(file: Path, rows: Iterator[dict[str, list[int]]]) -> None:
    """The file is there only when it is whole."""
    draft = file.with_suffix(".draft")
    with pyarrow.OSFile(str(draft), "wb") as sink, pyarrow.ipc.new_stream(sink, SCHEMA) as stream:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            stream.write_batch(pyarrow.RecordBatch.from_pylist(some, schema=SCHEMA))
    put_on_disk(draft)
    os.replace(draft, file)


def cut_into_blocks(texts: Iterable[list[int]], block_size: int) -> Iterator[dict[str, list[int]]]:
    """Rows of `block_size` ids, each id its own label; what is left at the end is a shorter row.

    A single token is left out there, since nothing comes before it to predict it from.
    """
    rest: list[int] = []
    for ids in texts:
        rest += ids
        whole = len(rest) - len(rest) % block_size
        yield from (_row(rest[start : start + block_size]) for start in range(0, whole, block_size))
        rest = rest[whole:]
    if len(rest) > 1:
        yield _row(rest)


def _row(ids: list[int]) -> dict[str, list[int]]:
    return {"input_ids": ids, "labels": list(ids)}
