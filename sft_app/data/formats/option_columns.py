"""Find the options of a multiple-choice question, in columns of their own or in one column, and label them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sft_app.data.formats.column_profiles import normalize
from sft_app.data.rows import JsonObject
from sft_app.data.sources.python_literals import parsed_cell
from sft_app.errors import DataError

OPTION_NAME = re.compile(
    r"(|option|opt|choice|answer|ans|alternative|alternativa|opcion|opcao|opzione|antwort|auswahl)[ _.-]*([a-h]|\d)"
)
TELLING_STEMS = ("option", "opt", "choice", "alternative", "alternativa", "opcion", "opcao", "opzione", "auswahl")
LIST_NAMES = ("choices", "options", "alternatives", "answer_options", "answer_choices")
ANSWER_NAMES = (
    *("answer", "correct_answer", "correct", "correct_option", "correct_choice", "answer_key", "answerkey", "key"),
    *("right_answer", "solution", "label", "gold", "target", "respuesta", "reponse", "antwort", "richtig", "correcta"),
)
TEXT_KEYS = ("text", "content", "value", "option", "choice")
LABEL_KEYS = ("label", "key", "id")
Options = list[tuple[str, str]]
"""The label and the text of each option."""
_ONE_LABEL = re.compile(r"[(\[]?([A-Za-z]|\d{1,2})[)\].:]?")


@lru_cache(maxsize=256)
def option_columns(names: tuple[str, ...]) -> dict[str, str]:
    """Find the columns that hold one option each: `A`, `B`, `C` … or `option_1`, `option_2` …, with their labels.

    Labels count on from A, 0 or 1. Two columns are options only if their names say so (`option_a`); `answer_1` …
    are options only next to a column that says which one is correct.
    """
    stems: dict[str, dict[str, str]] = {}
    for name in names:
        if found := OPTION_NAME.fullmatch(normalize(name)):
            stems.setdefault(found[1], {})[name] = found[2].upper()
    for stem, labels in stems.items():
        has_answer = any(is_option_answer(name) for name in names if name not in labels)
        enough = 2 if stem in TELLING_STEMS else 3
        if len(labels) >= enough and has_answer and _count_on(list(labels.values())):
            return labels
    return {}


def option_list_column(row: JsonObject, used: Sequence[str] = ()) -> str:
    """Find the column that lists a row's options; "" if there is none."""
    names = (name for name in _list_names(tuple(row)) if name not in used)
    return next((name for name in names if listed_options(row[name])), "")


@lru_cache(maxsize=256)
def _list_names(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if normalize(name) in LIST_NAMES]


def options_of(row: JsonObject, used: Sequence[str] = ()) -> Options:
    """Return the options of a row, labelled as in the file, or else from A on; [] if it has none."""
    labels = option_columns(tuple(row))
    if labels and not labels.keys() & set(used):
        return [(label, str(row[name])) for name, label in labels.items() if row[name] not in (None, "")]
    column = option_list_column(row, used)
    return listed_options(row[column]) if column else []


def listed_options(value: Any) -> Options:
    """Read a list of options in any of the usual forms; [] if the value is none.

    Source: ARC and CommonsenseQA (`{"label": […], "text": […]}`), MMLU (a list of texts), MedQA (`{"A": …}`).
    """
    value = parsed_cell(value)
    if isinstance(value, dict):
        texts = next((value[key] for key in TEXT_KEYS if isinstance(value.get(key), list)), None)
        labels = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), list)), None)
        if texts is not None:
            return _labelled(texts, labels)
        return _labelled(list(value.values()), list(value)) if _count_on([str(key).upper() for key in value]) else []
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        texts = [next((item[key] for key in TEXT_KEYS if key in item), None) for item in value]
        labels = [next((item[key] for key in LABEL_KEYS if key in item), None) for item in value]
        return _labelled(texts, labels if None not in labels else None)
    return _labelled(value, None) if isinstance(value, list) else []


def check_option_answer(answer: str, options: Options, column: str) -> None:
    """Raise DataError if an answer that is only a label, such as `B`, is none of the options."""
    found = _ONE_LABEL.fullmatch(answer.strip())
    labels = [label.upper() for label, _ in options]
    if found is None or found[1].upper() in labels or answer.strip() in [text.strip() for _, text in options]:
        return
    if found[1].isdigit() and not labels[0].isdigit():
        raise DataError(
            f"`{column}` holds the number of an option ({found[1]}), and it is unclear whether counting starts at 0 or "
            f"1. Replace the number by the letter of the option, {labels[0]} to {labels[-1]}, or by its text"
        )
    raise DataError(f"`{column}` is {answer.strip()!r}, and the options are {', '.join(labels)}")


def is_option_answer(name: str) -> bool:
    """Return whether a column next to options may say which one is right: `answer`, `correct_option`, `answerKey`."""
    return re.sub(r"[\W_]+", "_", normalize(name)) in ANSWER_NAMES


def _count_on(labels: Sequence[str]) -> bool:
    """Return whether labels are A, B, C … or numbers from 0 or 1 on, at least two of them."""
    if len(labels) < 2 or not all(len(label) == 1 for label in labels):
        return False
    steps = [ord(label) - ord(labels[0]) for label in labels]
    return labels[0] in ("A", "0", "1") and steps == list(range(len(labels)))


def _labelled(texts: Any, labels: Any) -> Options:
    if not isinstance(texts, list) or len(texts) < 2 or any(isinstance(one, (list, dict, type(None))) for one in texts):
        return []
    if not isinstance(labels, list) or len(labels) != len(texts):
        labels = [chr(ord("A") + where) for where in range(len(texts))]
    return [(str(label), str(text)) for label, text in zip(labels, texts, strict=True)]
