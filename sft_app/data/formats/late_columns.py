"""Deal with columns that no row fills among those from which the layout of a file was detected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sft_app.data.formats.column_names import CONTEXTS, in_backticks, system_column
from sft_app.data.formats.column_profiles import Rows, list_columns, normalize
from sft_app.data.formats.converters.tables import ColumnMap, fitting_map
from sft_app.data.formats.reading_notes import used_columns
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

UNUSED = (
    "Not used, because no row up to row {:,} fills them: {}. If they are needed, give every row these columns, and "
    "move rows that fill them to the top of the file."
)
FIRST_FILLED = "No row up to row {:,} fills `{}`; where it is filled, it is read as the {}."
BEYOND = "read without `{}`, because no row up to row {:,} fills it"
MOST_NAMED = 40


@dataclass(frozen=True)
class LateColumns:
    """The settings that read late columns, and what to say about each."""

    settings: DataSettings
    notes: list[str]


def add_late_columns(rows: Rows, late: JsonObject, settings: DataSettings, is_chosen: bool = False) -> LateColumns:
    """Add a system prompt and a context that are first filled after `rows` to a table, and name the columns not read.

    `late` has the columns with their first values. Nothing is added to a layout that the user chose (`is_chosen`).
    """
    added = {} if is_chosen else _late_parts(rows, late, settings)
    notes = [FIRST_FILLED.format(len(rows), name, part) for part, name in added.items()]
    if added:
        parts = {"system": added.get("system prompt", ""), "context": added.get("context of the question", "")}
        known = vars(_map_of(rows, late, settings))
        map = ColumnMap(**{part: known[part] or parts.get(part, "") for part in known})
        settings = settings.model_copy(update={"format": "columns", "columns": map.entries()})
    used = used_columns([*rows, {**rows[0], **late}], settings)
    unused = [name for name in late if name not in used]
    return LateColumns(
        settings, notes + ([UNUSED.format(len(rows), in_backticks(unused, MOST_NAMED))] if unused else [])
    )


def check_named_columns(names: Iterable[str], settings: DataSettings) -> None:
    """Check the columns of the system prompt and the context, which a row may lack, but not all of them.

    Raises:
        DataError: no row has such a column.
    """
    map = settings.column_map() if settings.format == "columns" else {}
    known = list(names)
    for part in ("system", "context"):
        if (name := map.get(part)) and name not in known:
            raise DataError(f"There is no column `{name}`; the columns are {in_backticks(known, 8)}.")


def _late_parts(rows: Rows, late: JsonObject, settings: DataSettings) -> dict[str, str]:
    """Return which late column is the system prompt, and which the context, of a table that has none."""
    texts = [name for name, value in late.items() if isinstance(value, str)]
    if not texts or settings.format != "columns" and not LAYOUTS[settings.format].column_maps:
        return {}
    map = _map_of(rows, late, settings)
    system = "" if map.system else system_column(texts)
    context = "" if map.context else next((name for name in texts if normalize(name) in CONTEXTS), "")
    found = {"system prompt": system, "context of the question": context}
    return {part: name for part, name in found.items() if name}


def _map_of(rows: Rows, late: JsonObject, settings: DataSettings) -> ColumnMap:
    """Return the columns of a table, without those of a well-known one that the file does not have."""
    if settings.format == "columns":
        return ColumnMap(**settings.column_map())
    names = [*list_columns(rows), *late]
    map = fitting_map(LAYOUTS[settings.format].column_maps, names)
    return ColumnMap(**{part: name if name in names else "" for part, name in vars(map).items()})
