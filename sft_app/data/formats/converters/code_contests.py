"""Convert contest problems (AlphaCode's CodeContests) to message lists. Their tests are never used.

Source: google-deepmind/code_contests, contest_problem.proto (columns, languages) and its dataset card (layout).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sft_app.data.messages import RawMessages, kind_of
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError, NotChosen
from sft_app.settings import DataSettings

LANGUAGES = ("unknown", "python2", "cpp", "python3", "java")
"""By their number in the dataset."""
LANGUAGE_NAMES = {"python2": "Python 2", "cpp": "C++", "python3": "Python 3", "java": "Java"}
FENCES = {"python2": "python", "python3": "python", "cpp": "cpp", "java": "java"}
SPELLINGS = {"python": "python2", "py2": "python2", "py3": "python3", "c++": "cpp", "python 2": "python2"}


def from_code_contests(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"description", "solutions"}`, with at most `solutions_per_problem` in the chosen language.

    Raises:
        DataError: the description or the solutions are unusable.
        NotChosen: no solution is in the chosen language.
    """
    description = row.get("description")
    if not isinstance(description, str) or not description.strip():
        raise DataError("`description` must be text")
    if "<image>" in description:
        raise DataError("its description refers to a picture")
    wanted = settings.code_language
    chosen = [
        (language, code)
        for language, code in _solutions(row.get("solutions"))
        if wanted in (language, "any") and code.strip()
    ]
    if not chosen:
        raise NotChosen(f"it has no solution in {LANGUAGE_NAMES.get(wanted, 'any language')}")
    return [_conversation(description, *solution) for solution in chosen[: settings.solutions_per_problem]]


def solutions_column(row: JsonObject) -> str:
    """Return the column of the solutions if the row is a problem with solutions; otherwise ""."""
    is_problem = isinstance(row.get("description"), str) and isinstance(row.get("solutions"), (list, dict))
    return "solutions" if is_problem else ""


def _conversation(description: str, language: str, code: str) -> RawMessages:
    task = f"\n\nSolve this in {LANGUAGE_NAMES[language]}." if language in LANGUAGE_NAMES else "\n\nSolve this."
    answer = f"```{FENCES.get(language, '')}\n{code.strip(chr(10))}\n```"
    return [{"role": "user", "content": description.rstrip() + task}, {"role": "assistant", "content": answer}]


def _solutions(value: Any) -> Iterator[tuple[str, str]]:
    """Yield language and code from a struct of lists (as on the Hub) or a list of structs (as in the protocol)."""
    if isinstance(value, dict):
        languages, codes = value.get("language"), value.get("solution")
        if not isinstance(languages, list) or not isinstance(codes, list) or len(languages) != len(codes):
            raise DataError("`solutions` must contain as many languages as solutions")
        pairs = list(zip(languages, codes, strict=True))
    elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        pairs = [(entry.get("language"), entry.get("solution")) for entry in value]
    else:
        raise DataError(f"`solutions` must be a list of {{language, solution}}, got {kind_of(value)}")
    return ((_language(language), code) for language, code in pairs if isinstance(code, str))


def _language(value: Any) -> str:
    """Identify a language by its number or by any spelling of its name; "unknown" otherwise."""
    if isinstance(value, int) and 0 <= value < len(LANGUAGES):
        return LANGUAGES[value]
    name = str(value).strip().lower().replace("_", " ")
    name = SPELLINGS.get(name, name.replace(" ", ""))
    return name if name in LANGUAGES else "unknown"
