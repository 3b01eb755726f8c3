"""Odd files that people bring: read rightly, or refused with a sentence that says what was found and what to do."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from sft_app.data.reading import load_data, open_data
from sft_app.errors import DataError
from sft_app.settings import DataSettings

PAIRS = [
    ("How do I reset my boiler?", "Hold the red button for five seconds."),
    ("When does the museum open?", "It opens at nine every day."),
    ("Can I bring my dog?", "Yes, on a short lead, please."),
]


def table(header: str, rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header.split(","), *rows])
    return text.getvalue()


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def chat(ask: str, answer: str, role: str = "role", content: str = "content") -> list[dict[str, str]]:
    return [{role: who, content: text} for who, text in zip((ask, answer), PAIRS[0], strict=True)]


READ = {
    "decimal comma.csv": table("Frage,Antwort,Preis", [(*pair, "3,50") for pair in PAIRS], ";"),
    "tabs.csv": table("question,answer", PAIRS, "\t"),
    "byte order mark.csv": "\ufeff" + table("question,answer", PAIRS),
    "concatenated.json": "".join(json.dumps({"question": q, "answer": a}) for q, a in PAIRS),
    "array.jsonl": json.dumps([{"question": q, "answer": a} for q, a in PAIRS]),
    "trailing comma.json": json.dumps([dict(zip(("question", "answer"), PAIRS[0], strict=True))]).replace("}]", ",},]"),
    "one object.json": json.dumps({"question": PAIRS[0][0], "answer": PAIRS[0][1]}),
    "empty columns.csv": table("question,,answer,notes", [(q, "", a, "") for q, a in PAIRS]),
    "total.csv": table("question,answer,minutes", [*((*pair, "3") for pair in PAIRS), ("Total", "3", "9")]),
    "joined.csv": table("question,answer", [*PAIRS[:2], ("question", "answer"), PAIRS[2]]),
    "arabic.csv": table("السؤال,الجواب", PAIRS),
    "hebrew.csv": table("שאלה,תשובה", PAIRS),
    "spanish roles.jsonl": lines({"mensajes": chat("usuario", "asistente", "rol", "contenido")}),
    "german roles.jsonl": lines({"messages": chat("Benutzer", "Assistent")}),
    "json in cells.csv": table("id,conversation", [("1", json.dumps(chat("user", "assistant")))]),
    "newest first.csv": table(
        "conversation_id,timestamp,role,content",
        [("1", "01/02/2024 1:05 PM", "agent", PAIRS[0][1]), ("1", "01/02/2024 9:01 AM", "customer", PAIRS[0][0])],
    ),
    "float ids.csv": table(
        "conversation_id,turn,role,content", [("1.0", "2.0", "agent", PAIRS[0][1]), ("1", "1", "user", PAIRS[0][0])]
    ),
}
REFUSED = {
    "group.csv": (
        table("time,name,message", [("10:00", "Ana", "Open?"), ("10:01", "Bo", "At nine."), ("", "Cy", "No.")]),
        "speakers are “Ana”, “Bo”, “Cy”. Which of them is the assistant",
    ),
    "comments.json": ('// by hand\n[{"question": "a", "answer": "b"}]', "begins with a comment .*delete the comments"),
    "booleans.jsonl": (
        lines(*({"question": q, "answer": True} for q, _ in PAIRS)),
        "`answer` contains values .* not text",
    ),
    "two answers.csv": (
        table("question,answer,answer", [(*pair, f"Or: {pair[1]}") for pair in PAIRS]),
        r"`answer`, `answer \(2\)` could each be the answer",
    ),
    "mails.mbox": ("From a@b Sat\n\nhi\n", "export of mails. Put each question and the reply"),
    "three texts.jsonl": (
        lines({"fields": {"a": "x y", "b": "z"}, "responses": []}),
        "none of them is called question",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_odd_file_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(READ[name], encoding="utf-8", newline="")
    data = load_data(open_data(DataSettings(data=str(tmp_path / name)), tmp_path))
    pairs = [tuple(one.content for one in chat.messages) for chat in data.conversations]
    assert pairs == PAIRS[: len(pairs)]
    assert all(row.by_choice for row in data.rejected)


@pytest.mark.parametrize("name", REFUSED)
def test_odd_file_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    text, said = REFUSED[name]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    with pytest.raises(DataError, match=said):
        load_data(open_data(DataSettings(data=str(tmp_path / name)), tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "gbk", "shift_jis"])
def test_other_encodings_are_read_and_said(encoding: str, tmp_path: Path) -> None:
    header, pair = ("質問,回答", ("博物館は何時に開きますか？", "毎日九時に開きます。"))
    header, pair = ("问题,答案", ("博物馆几点开门？", "每天九点开门。")) if encoding == "gbk" else (header, pair)
    header, pair = (header, pair) if encoding in ("gbk", "shift_jis") else ("question,answer", PAIRS[0])
    (tmp_path / "a.csv").write_bytes(table(header, [pair]).encode(encoding))
    data = load_data(open_data(DataSettings(data=str(tmp_path / "a.csv")), tmp_path))
    assert [tuple(one.content for one in chat.messages) for chat in data.conversations] == [pair]
    assert any("read as" in note for note in data.file.notes)
