"""Columns that say whether a row's answer is good: rows whose answer is marked as bad are not learnt.

Source: TRL, "Dataset formats" (unpaired preference: prompt, completion, label); LLaMA-Factory's `kto_tag`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_app.data.formats.profile import Rows, column_names, plain, word_set

GOOD = word_set(
    "true 1 yes y ok good up thumbs_up positive like liked accepted approved correct desirable chosen preferred 👍 "
    "+1 ja oui si sim"
)
BAD = word_set(
    "false 0 no n bad down thumbs_down negative dislike disliked rejected declined incorrect wrong undesirable 👎 "
    "-1 nein non nao"
)
OF_LABELS = word_set("true false 1 0 good bad desirable undesirable up down")
"""A `label` with other words is a class of the text."""
SAYS_GOOD = word_set(
    "label kto_tag good is_good approved accepted correct is_correct is_approved is_accepted desirable "
    "is_desirable thumb thumbs thumbs_up feedback user_feedback vote liked preferred is_preferred chosen "
    "is_chosen freigegeben approuve aprobado"
)
SAYS_BAD = word_set("bad is_bad rejected is_rejected thumbs_down disliked wrong is_wrong incorrect is_incorrect")
RATES = word_set("rating ratings score stars quality bewertung note puntuacion")
"""As `_word` spells them."""


@dataclass(frozen=True)
class Verdict:
    """A column whose words in `bad` say that the row's answer is not to be learnt."""

    column: str
    bad: frozenset[str]

    def is_bad(self, row: dict[str, Any]) -> bool:
        return _word(row.get(self.column)) in self.bad


def find_verdict(rows: Rows, used: Sequence[str]) -> Verdict | None:
    """The first column beside the `used` ones that is called a verdict and holds nothing but yes and no."""
    for name in column_names(rows):
        called = _word(name)
        words = {_word(row[name]) for row in rows if row.get(name) not in (None, "")} if name not in used else set()
        if not words or not words <= (OF_LABELS if called == "label" else GOOD | BAD):
            continue
        if called in SAYS_GOOD or called in SAYS_BAD:
            return Verdict(name, BAD if called in SAYS_GOOD else GOOD)
    return None


def is_rating(name: str) -> bool:
    """A column that may rate the answers, by more than yes and no."""
    return _word(name) in RATES


def _word(value: Any) -> str:
    """`True`, `1.0` and `thumbs up` as `true`, `1` and `thumbs_up`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "_".join(plain(str(value)).split())
