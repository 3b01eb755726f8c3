"""Chats that WhatsApp exported keep every line of a message, and not what the program wrote itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.settings import parse_settings

ANDROID = """12.05.24, 14:29 - Messages are encrypted. Nobody else can read them.
12.05.24, 14:30 - Kundin: Mein Kessel tropft.
Was nun?

Eilig!
12.05.24, 14:31 - Laden Nord: Bitte ein Foto.
Viele Grüße
12.05.24, 14:32 - Kundin: <Medien ausgeschlossen>
12.05.24, 14:33 - Kundin: Hier ist es.
12.05.24, 14:34 - Laden Nord: Diese Nachricht wurde gelöscht
12.05.24, 14:35 - Laden Nord: Danke!
"""
IPHONE = """[5/1/24, 2:00:00\u202fPM] Laden Nord: \u200eMessages and calls are end-to-end encrypted.
[5/1/24, 2:00:11\u202fPM] Kundin: Mein Kessel tropft.
Was nun?

Eilig!
[5/1/24, 2:10:12\u202fPM] Laden Nord: Bitte ein Foto.
Viele Grüße
\u200e[5/1/24, 2:11:12\u202fPM] Kundin: \u200eimage omitted
\u200e[5/1/24, 2:12:12\u202fPM] Kundin: Hier ist es.
[5/1/24, 2:13:12\u202fPM] Laden Nord: Danke!
"""
EXPECTED = [
    ("user", "Mein Kessel tropft.\nWas nun?\n\nEilig!"),
    ("assistant", "Bitte ein Foto.\nViele Grüße"),
    ("user", "Hier ist es."),
    ("assistant", "Danke!"),
]


def load(folder: Path, text: str, **settings: str) -> LoadedData:
    path = folder / "chat.txt"
    path.write_text(text, encoding="utf-8")
    return load_data(open_data(parse_settings({"data": str(path), **settings}).reading(), folder))


@pytest.mark.parametrize("text", [ANDROID, IPHONE])
def test_messages_have_all_their_lines_and_notices_are_left_out(text: str, tmp_path: Path) -> None:
    data = load(tmp_path, text, assistant="Laden Nord")
    assert [(turn.role, turn.content) for turn in data.conversations[0].messages] == EXPECTED
    assert any("begins with a date" in note for note in data.file.notes)
    assert all(row.by_choice and row.reason == "it contains no message" for row in data.rejected)
    assert len(data.rejected) == (3 if text is ANDROID else 2)


def test_a_list_of_dates_is_no_chat(tmp_path: Path) -> None:
    data = load(tmp_path, "12.05.24, 14:29 the shop opened\nand it rained\n" + "Then it closed.\n" * 9)
    assert data.file.settings.format == "text" and len(data.conversations) == 11
