"""Convert questions with several answers of which ranks or scores mark the best: only that one is trained on."""

from __future__ import annotations

from typing import Any

from sft_app.data.formats.column_names import question_score, system_column
from sft_app.data.formats.column_profiles import is_number
from sft_app.data.messages import RawMessages
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

LISTS = ("responses", "candidates", "completions", "answers", "outputs", "generations", "replies")
TEXTS = ("text", "content", "response", "answer", "output", "completion", "message", "value")
RANKS = ("rank", "ranking", "position")
SCORES = ("score", "rating", "reward", "votes", "upvotes", "grade", "overall_score", "preference_score")
RANK_LISTS = ("rank", "ranks", "ranking", "rankings", "preference_order")
SCORE_LISTS = ("score", "scores", "rating", "ratings", "reward", "rewards", "votes")


def candidates_column(row: JsonObject) -> str:
    """Return the column that lists the answers to one question; "" if the row has another layout."""
    column = next((name for name in LISTS if len(_texts(row.get(name))) > 1), "")
    return column if column and _question(row) and not isinstance(row.get("answer", row.get("response")), str) else ""


def candidates_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_candidates` reads."""
    marks = [name for name in (*RANK_LISTS, *SCORE_LISTS) if isinstance(row.get(name), list)]
    return [candidates_column(row), _question(row), system_column(row), *marks]


def from_candidates(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"prompt", "responses": [{"text", "rank"}, …]}` to the prompt and the best answer.

    Raises:
        DataError: nothing marks the best answer, or several are equally good.
    """
    column = candidates_column(row)
    if not column:
        raise DataError("it has no question with a list of answers")
    texts, goodness = _texts(row[column]), _goodness(row, column)
    if len(goodness) != len(texts):
        raise DataError(
            f"`{column}` lists {len(texts)} answers, and nothing says which one is the best. Give each a `rank` or a "
            "`score`, or put the best ones into a column `answer`"
        )
    best = max(goodness)
    if goodness.count(best) > 1:
        raise DataError(f"{goodness.count(best)} of the answers in `{column}` are rated best; keep one of them")
    system = system_column(row)
    opened = [{"role": "system", "content": row[system]}] if isinstance(row.get(system), str) and row[system] else []
    answer = {"role": "assistant", "content": texts[goodness.index(best)]}
    return [[*opened, {"role": "user", "content": row[_question(row)]}, answer]]


def candidates_notes(rows: list[JsonObject], settings: DataSettings) -> list[str]:
    """Say how many answers are not trained on."""
    left = sum(len(_texts(row[column])) - 1 for row in rows if (column := candidates_column(row)))
    where = f"in the first {len(rows):,} rows" if len(rows) > 1 else "in the first row"
    return [f"Of several answers to a question, only the best is trained on; {left:,} others {where} are left out."]


def _question(row: JsonObject) -> str:
    texts = [name for name, value in row.items() if isinstance(value, str) and value.strip()]
    return max(texts, key=question_score, default="") if any(map(question_score, texts)) else ""


def _texts(value: Any) -> list[str]:
    """Return the texts of a list of answers; [] if it is something else."""
    found = [_text_of(item) for item in value] if isinstance(value, list) else []
    return [] if None in found else [text for text in found if text is not None]


def _text_of(item: Any) -> str | None:
    if isinstance(item, dict):
        item = next((item[name] for name in TEXTS if isinstance(item.get(name), str)), None)
    return item if isinstance(item, str) and item.strip() else None


def _goodness(row: JsonObject, column: str) -> list[float]:
    """Return a number for each answer, larger for better ones; [] if there is none."""
    items = row[column]
    inside = [({name: [_get(item, name) for item in items]}, name) for name in (*RANKS, *SCORES)]
    for holder, name in [*inside, *((row, name) for name in (*RANK_LISTS, *SCORE_LISTS))]:
        given = holder.get(name)
        if isinstance(given, list) and len(given) == len(items) and all(map(is_number, given)):
            sign = -1.0 if name in (*RANKS, *RANK_LISTS) else 1.0
            return [sign * float(number) for number in given]
    return []


def _get(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else None
