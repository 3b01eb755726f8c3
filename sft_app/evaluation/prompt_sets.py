"""Read a set of prompts, pasted or from a file, answer it with both sides, and export the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.conversation import prompt_messages
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.data.sources.data_files import read_rows
from sft_app.errors import DataError, ModelError
from sft_app.evaluation.sides.more_sides import MoreSide, Question, SideText, open_sides
from sft_app.evaluation.tables import csv_text, jsonl_text
from sft_app.evaluation.word_diff import change_between

if TYPE_CHECKING:
    from sft_app.inference.generation import Answer, Sampling
    from sft_app.inference.pair import LoadedPair

PROMPT_SET_COLUMNS = ("prompt", "question", "user", "instruction", "query", "input", "text")
ADDED_COLUMNS = {"instruction": ("input", "context"), "question": ("context",)}
"""Columns whose text belongs to a prompt and is added below it, as in training."""
REFERENCE_COLUMNS = ("reference", "answer", "completion", "response", "output", "expected")
PROMPTS_AT_ONCE = 8
ROWS_TO_NAME_COLUMNS = 100


@dataclass(frozen=True)
class Prompt:
    """A prompt; `reference` is its reference answer, "" if there is none."""

    text: str
    reference: str = ""


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, and the columns they were read from; `left_out` counts rows without a readable prompt.

    The text of `added_column` is a part of each prompt.
    """

    prompts: tuple[Prompt, ...]
    columns: tuple[str, ...] = ()
    prompt_column: str = ""
    reference_column: str = ""
    left_out: int = 0
    added_column: str = ""


@dataclass(frozen=True)
class PromptTable:
    """The readable rows of a file, `total` with the others, and the columns that have their prompts."""

    rows: list[JsonObject]
    total: int
    columns: list[str]
    prompt_column: str
    added_column: str = ""

    def prompt(self, row: JsonObject) -> str:
        """Return a row's prompt, "" if it has none."""
        text, added = _text(row.get(self.prompt_column)), _text(row.get(self.added_column))
        return f"{text}\n{added}" if text.strip() and added.strip() else text


@dataclass(frozen=True)
class PromptResult:
    """Both answers to a prompt. `change` is 0 if they are the same, 1 if they share no words, and None if one is
    missing; then `problem` says why. `problems` has the problem of each side, if it is not that of both. `finished`
    says whether each model ended its answer. `more` are the answers of further sides."""

    number: int
    prompt: str
    reference: str
    base: str
    tuned: str
    change: float | None
    problem: str = ""
    finished: tuple[bool, bool] = (True, True)
    more: tuple[SideText, ...] = ()
    problems: tuple[str, str] | None = None

    def sides(self) -> list[SideText]:
        """Return the answers of all sides, the two of the pair first."""
        problems = self.problems or (self.problem, self.problem)
        pair = zip((self.base, self.tuned), problems, self.finished, strict=True)
        return [*(SideText(text, problem, finished) for text, problem, finished in pair), *self.more]

    def shown_pair(self) -> tuple[str, str]:
        """Return both answers as a table shows them; a problem of both sides is said once."""
        if self.problem and self.problems is None:
            return f"Not answered: {self.problem}", ""
        base, tuned, *_ = (f"Not answered: {one.problem}" if one.problem else one.text for one in self.sides())
        return base, tuned

    @property
    def change_text(self) -> str:
        return "–" if self.change is None else f"{self.change:.0%}"


def paste_prompts(text: str) -> list[Prompt]:
    """Read one prompt per line. Raises: DataError if there is none."""
    prompts = [Prompt(line.strip()) for line in text.splitlines() if line.strip()]
    if not prompts:
        raise DataError("Enter at least one prompt, one per line.")
    return prompts


def read_prompt_file(path: Path, prompt: str = "", reference: str = "") -> PromptFile:
    """Read the named columns of a data file, or those with a usual name; a text file has one prompt per line.

    Raises:
        DataError: the file cannot be read, or has no such column or no prompt.
    """
    if path.suffix == ".txt":
        return PromptFile(_text_prompts(path))
    table = read_prompt_table(path, prompt)
    prompt_column = table.prompt_column
    reference_column = _column(table.columns, reference, REFERENCE_COLUMNS, path, "reference")
    prompts = [Prompt(table.prompt(row), _text(row.get(reference_column))) for row in table.rows]
    filled = tuple(prompt for prompt in prompts if prompt.text.strip())
    if not filled:
        raise DataError(f"The column {prompt_column!r} of {path.name} contains no prompts. Choose another column.")
    left_out, columns = table.total - len(filled), tuple(table.columns)
    return PromptFile(filled, columns, prompt_column, reference_column, left_out, table.added_column)


def read_prompt_table(path: Path, prompt: str = "") -> PromptTable:
    """Read the rows of a data file, and find the columns of their prompts unless one is named.

    Raises:
        DataError: the file cannot be read, or has no such column.
    """
    read = list(read_rows(path))
    rows = [row.values for row in read if isinstance(row, Row)]
    if not rows and (rejected := next((row for row in read if isinstance(row, Rejected)), None)):
        raise DataError(f"No row of {path.name} can be read. Row {rejected.row}: {rejected.reason.rstrip('.')}.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    column = _column(columns, prompt, PROMPT_SET_COLUMNS, path, "prompt")
    added = "" if prompt else _added_column(rows, columns, column)
    return PromptTable(rows, len(read), columns, column, added)


def prompt_column_names(path: Path) -> list[str]:
    """List the columns in the first rows; [] for a text file or one that cannot be read."""
    if path.suffix == ".txt":
        return []
    try:
        rows = [row.values for row in islice(read_rows(path), ROWS_TO_NAME_COLUMNS) if isinstance(row, Row)]
    except DataError:
        return []
    return list(dict.fromkeys(name for row in rows for name in row))


def answer_prompt_set(
    pair: LoadedPair, prompts: Sequence[Prompt], system: str, sampling: Sampling, more: Sequence[MoreSide] = ()
) -> Iterator[list[PromptResult]]:
    """Yield the results batch by batch, in the order of the prompts. Closing the generator stops the work.

    Further sides answer each batch after the pair, one after the other.
    """
    from sft_app.data.tokens import render_prompt
    from sft_app.inference.batch_generation import answer_each

    pair, further = open_sides(pair, more)
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        batch = prompts[start : start + PROMPTS_AT_ONCE]
        questions = [prompt_messages(prompt.text, system) for prompt in batch]
        rendered = [render_prompt(pair.tokenizer, messages) for messages in questions]
        answered = zip(batch, answer_each(pair, rendered, sampling), strict=True)
        results = [_result(number, prompt, both) for number, (prompt, both) in enumerate(answered, start=start + 1)]
        asked = [Question(messages, ids) for messages, ids in zip(questions, rendered, strict=True)]
        texts = [answer(asked, sampling) for answer in further]
        yield [replace(result, more=tuple(side[index] for side in texts)) for index, result in enumerate(results)]


@dataclass(frozen=True)
class PromptSetTask:
    """Asks both sides every prompt of a set; each result is a batch of `PromptResult`s."""

    prompts: Sequence[Prompt]
    system: str
    sampling: Sampling
    more: tuple[MoreSide, ...] = ()

    @property
    def steps(self) -> int:
        return (2 + len(self.more)) * self.sampling.max_new_tokens * -(-len(self.prompts) // PROMPTS_AT_ONCE)

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        return answer_prompt_set(pair, self.prompts, self.system, self.sampling, self.more)


def as_csv(results: Sequence[PromptResult], names: Sequence[str] = ("base", "tuned")) -> str:
    """Return the results as CSV for spreadsheets; `names` are the headers of the answers, of all sides."""
    empty = PromptResult(0, "", "", "", "", 0.0, more=(SideText(),) * (len(names) - 2))
    return csv_text(list(_row(empty, names)), result_rows(results, names))


def as_jsonl(results: Sequence[PromptResult], names: Sequence[str] = ("base", "tuned")) -> str:
    return jsonl_text(result_rows(results, names))


def result_rows(results: Sequence[PromptResult], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per prompt with a column per side; `problem` names the sides that have no answer."""
    return [_row(result, names) for result in results]


def _row(result: PromptResult, names: Sequence[str]) -> dict[str, Any]:
    more = dict(zip(names[2:], result.more, strict=True))
    problems = [result.problem, *(f"{name}: {side.problem}" for name, side in more.items() if side.problem)]
    return {
        **{"number": result.number, "prompt": result.prompt, "reference": result.reference},
        **{names[0]: result.base, names[1]: result.tuned},
        **{name: side.text for name, side in more.items()},
        **{"change": result.change, "problem": " ".join(filter(None, problems))},
    }


def _result(number: int, prompt: Prompt, both: tuple[Answer, Answer] | ModelError) -> PromptResult:
    if isinstance(both, ModelError):
        return PromptResult(number, prompt.text, prompt.reference, "", "", None, str(both))
    finished = (both[0].finished, both[1].finished)
    base, tuned = ("" if answer.broken else answer.text for answer in both)
    broken = [name for name, answer in zip(("left", "right"), both, strict=True) if answer.broken]
    if broken:
        sentence = (
            f"The {' and the '.join(broken)} side produced NaN or infinite values, so there is no complete answer."
        )
        problems = (sentence if both[0].broken else "", sentence if both[1].broken else "")
        return PromptResult(
            number, prompt.text, prompt.reference, base, tuned, None, sentence, finished, problems=problems
        )
    change = change_between(base, tuned)
    return PromptResult(number, prompt.text, prompt.reference, base, tuned, change, finished=finished)


def _text_prompts(path: Path) -> tuple[Prompt, ...]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if not text.strip():
        raise DataError(f"{path.name} contains no prompts. A text file needs one prompt per line.")
    return tuple(paste_prompts(text))


def _column(columns: list[str], name: str, usual: Sequence[str], path: Path, kind: str) -> str:
    """Return the column `name`, or one with a usual name; "" if there is no reference column."""
    if name and name not in columns:
        raise DataError(f"{path.name} has no column {name!r}. Choose one of: {', '.join(columns) or 'none'}.")
    lowered = {column.lower(): column for column in columns}
    column_name = name or next((lowered[usual_name] for usual_name in usual if usual_name in lowered), "")
    if not column_name and kind == "prompt":
        raise DataError(
            f"No column of {path.name} could be identified as the prompts. "
            f"Choose one of: {', '.join(columns) or 'none'}."
        )
    return column_name


def _added_column(rows: Sequence[JsonObject], columns: Sequence[str], prompt: str) -> str:
    """Return the column whose text is a part of each prompt, such as Alpaca's `input`; "" if there is none."""
    usual = ADDED_COLUMNS.get(prompt.lower(), ())
    named = (column for name in usual for column in columns if column.lower() == name)
    return next((column for column in named if any(_text(row.get(column)).strip() for row in rows)), "")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
