"""Read questions and answers that are written as text: lines that begin with `Q:` and `A:`, or a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import MAX_ROW_BYTES, UnreadableFileError, decoded_lines
from sft_app.data.sources.tables import Record, TableHead, read_table

QUESTION_MARKS = (
    *("q", "question", "frage", "f", "pregunta", "p", "domanda", "d", "vraag", "pergunta", "вопрос", "в", "问", "问题"),
    *("質問", "질문", "سؤال"),
)
ANSWER_MARKS = (
    *("a", "answer", "antwort", "r", "respuesta", "reponse", "réponse", "risposta", "antwoord", "resposta", "ответ"),
    *("о", "答", "答案", "回答", "답변", "جواب"),
)
_MARK = re.compile(
    r"\s*(?:[-*>#\d.)]{1,4}\s+)?(?:\*\*|__)?([^\W\d_]{1,12})\s?\d{0,4}\s*(?:[:：](?:\*\*|__)?|(?:\*\*|__)[:：])\s*"
)
_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*")
_CELL_END = re.compile(r"(?<!\\)\|")
LEAST_PAIRS = 2
MOST = 0.6
"""At least this share of the questions has one answer, and of the answers a question."""


def is_markdown_table(text: str) -> bool:
    """Return whether the first table of a text has a header, a rule of dashes and rows, each in vertical bars."""
    return _rule_of(text.splitlines()[:200]) > 0


def are_questions(text: str) -> bool:
    """Return whether a text consists of marked questions, most with one marked answer."""
    kinds = [kind for line in text.splitlines() if (kind := _kind(line)[0])]
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    answered = sum(pair == ("question", "answer") for pair in pairwise(kinds))
    return answered >= max(LEAST_PAIRS, MOST * max(map(kinds.count, ("question", "answer")))) and bool(_kind(first)[0])


def read_questions(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read each question with the answers below it; text above the first question is named in a note."""
    notes.append("Lines that begin with a mark such as `Q:` are read as questions, and those with `A:` as answers.")
    number, last, note, above = 0, "", "", ""
    row = {"question": "", "answer": ""}
    for _, line, guessed in decoded_lines(blocks):
        kind, text = _kind(line)
        if kind == "question" and any(row.values()):
            number += 1
            yield _pair(number, row, note)
            row, note = {"question": "", "answer": ""}, ""
        last, note = kind or last, note or guessed
        if last:
            row[last] += f"\n{text}" if row[last] else text
        elif line.strip() and not above:
            above = line.strip()
            notes.append(f"The text above the first question is left out: “{above[:40]}”.")
        if sum(map(len, row.values())) > MAX_ROW_BYTES:
            raise UnreadableFileError("an answer is larger than a row may be; the rest of the file was not read")
    yield _pair(number + 1, row, note)


def read_markdown_table(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read the first table in a Markdown text; a note says how much text around it is left out.

    Raises:
        UnreadableFileError: the table has no rows.
    """
    noted = list(decoded_lines(blocks))
    lines = [line for _, line, _ in noted]
    rule = _rule_of(lines)
    end = next((where for where in range(rule + 1, len(lines)) if "|" not in lines[where]), len(lines))
    others = [line.strip() for line in [*lines[: rule - 1], *lines[end:]] if line.strip()]
    notes.append("The table in the Markdown text is read.")
    if others:
        count = "1 line" if len(others) == 1 else f"{len(others)} lines"
        notes.append(f"{count} outside the table left out: “{others[0][:40]}”{' …' if len(others) > 1 else ''}")
    records = [Record(_cells(line), note) for _, line, note in [noted[rule - 1], *noted[rule + 1 : end]]]
    yield from read_table(iter(records), TableHead(), notes)


def _kind(line: str) -> tuple[str, str]:
    """Return `question` or `answer` and the text after the mark; "" and the line if it has no mark."""
    found = _MARK.match(line)
    mark = found[1].lower() if found else ""
    kind = "question" if mark in QUESTION_MARKS else "answer" if mark in ANSWER_MARKS else ""
    return kind, line[found.end() :] if found and kind else line


def _pair(number: int, row: dict[str, str], note: str) -> Row | Rejected:
    texts = {name: text.strip() for name, text in row.items()}
    if not texts["answer"]:
        return Rejected(number, f"the question “{texts['question'][:40]}” has no answer")
    return Row(number, texts, note)


def _rule_of(lines: list[str]) -> int:
    """Return the index of the rule below a table's header; 0 if there is no table."""
    return next(
        (
            where
            for where in range(1, len(lines) - 1)
            if "|" in lines[where] and _RULE.fullmatch(lines[where])
            if len(_cells(lines[where - 1])) == len(_cells(lines[where])) >= 2 and "|" in lines[where + 1]
        ),
        0,
    )


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [re.sub(r"<br ?/?>", "\n", cell.strip().replace("\\|", "|")) for cell in _CELL_END.split(inner)]
