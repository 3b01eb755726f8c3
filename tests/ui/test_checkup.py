"""Which fixes stand ticked on the page: the recommended ones at first, then what the person chose."""

from __future__ import annotations

from sft_app.data.checkup.fixes import LABELS, RECOMMENDED
from sft_app.ui.data.checkup import NO_FIXES, offer_fixes

OTHER = next(name for name in LABELS if name not in RECOMMENDED)
FIRST = next(name for name in LABELS if name in RECOMMENDED)


def ticked_after(found: tuple[str, list[str]], offered: tuple[str, list[str]], ticked: list[str]) -> list[str]:
    box, fixes, now_offered = offer_fixes(found, offered, ticked)
    assert box.visible == bool(found[1]) and now_offered == found
    value: list[str] = fixes.value
    return value


def test_the_recommended_fixes_are_ticked_at_first() -> None:
    assert ticked_after(("a.csv", [FIRST, OTHER]), NO_FIXES, []) == [FIRST]


def test_ticks_stay_when_the_same_data_is_checked_again() -> None:
    assert ticked_after(("a.csv", [FIRST, OTHER]), ("a.csv", [FIRST, OTHER, "x"]), [OTHER, "x"]) == [OTHER]


def test_a_fix_that_is_new_is_ticked_where_it_is_recommended() -> None:
    assert ticked_after(("a.csv", [FIRST, OTHER]), ("a.csv", [OTHER]), [OTHER]) == [FIRST, OTHER]


def test_other_data_begins_anew() -> None:
    assert ticked_after(("b.csv", [FIRST, OTHER]), ("a.csv", [FIRST, OTHER]), [OTHER]) == [FIRST]


def test_nothing_is_sent_when_nothing_changed() -> None:
    found = ("a.csv", [FIRST])
    assert all("__type__" in update and len(update) == 1 for update in offer_fixes(found, found, []))
