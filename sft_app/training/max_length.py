"""`max_length` where the settings leave it to us: told by the data and the tokenizer, and written into the run."""

from __future__ import annotations

import heapq
from typing import Any

from sft_app.data.checkup.inspection import MEASURED
from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import Example
from sft_app.files import iterate_jsonl, write_json_atomically
from sft_app.runs import Run
from sft_app.training.ranks import is_first_rank


def settle_max_length(run: Run, tokenizer: Any) -> int:
    """The run's `max_length`. One that is worked out stands in its `settings.json` from then on.

    The sample is the check-up's, so that the page tells the same number beforehand.

    Raises:
        DataError: the chat template takes no conversation.
    """
    record = run.record()
    if record.settings.max_length is not None:
        return record.settings.max_length
    sample: Sample[Example] = Sample(MEASURED)
    for row in heapq.merge(*map(iterate_jsonl, (run.train_file, run.heldout_file)), key=lambda row: row["row"]):
        sample.offer(Example(row["row"], make_conversation(row["messages"])))
    found = measure_lengths(tokenizer, sample.items, None, sample.offered).max_length
    record.settings = record.settings.model_copy(update={"max_length": found})
    if is_first_rank():
        write_json_atomically(run.path / "settings.json", record.model_dump())
    return found
