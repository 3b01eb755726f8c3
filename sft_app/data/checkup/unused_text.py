"""Find a column of texts that is not read although its texts are much longer than the answers."""

from __future__ import annotations

from sft_app.data.checkup.finding import Finding
from sft_app.data.formats.column_names import answer_mark, in_backticks, is_exact_answer
from sft_app.data.formats.column_profiles import ColumnProfile, profile_columns
from sft_app.data.formats.reading_notes import used_columns
from sft_app.data.reading import DataFile, rows_detected_from

MUCH_SHORTER = 5.0
SHORT_ANSWER = 60.0
"""In characters: longer answers are texts themselves."""


def unused_texts(file: DataFile) -> list[ColumnProfile]:
    """List the columns of sentences that are not read, apart from those of rejected answers."""
    rows = rows_detected_from(file)
    read = used_columns(rows, file.settings)
    return [
        column
        for column in profile_columns(rows)
        if column.kind == "prose" and column.name not in read and answer_mark(column.name) != "bad"
    ]


def find_short_answers(file: DataFile, unused: list[ColumnProfile], answer_length: float) -> list[Finding]:
    """Find out whether an unused column has much longer texts than the answers; lengths are means in characters.

    A column whose name says that it holds the answers, or that a person has chosen, is more likely to be right.
    """
    longer = [column for column in unused if column.length >= MUCH_SHORTER * answer_length]
    if answer_length > SHORT_ANSWER or not longer:
        return []
    longest = max(longer, key=lambda column: column.length)
    answer = file.settings.column_map().get("assistant", "")
    is_likely = file.certainty == "chosen" or file.settings.format != "columns" or is_exact_answer(answer)
    said = (
        f"The answers have about {answer_length:,.0f} characters, but {in_backticks([longest.name])}, which is not "
        f"used, has about {longest.length:,.0f}. If it holds the answers, choose it as the answer column."
    )
    return [Finding("short_answers", [], said, "", "check" if is_likely else "serious")]
