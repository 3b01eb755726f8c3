"""Text files with turns or cards are not plain text: logs of IRC, exports of LINE, Anki and Quizlet, copied chats."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.errors import UnclearAssistantError
from sft_app.settings import DataSettings

ASKED, SAID = "Where do I find valve {}?", "Valve {} is below the lid."


def loaded(folder: Path, text: str, suffix: str = ".txt", **settings: str) -> LoadedData:
    path = folder / f"chat{suffix}"
    path.write_text(text, encoding="utf-8")
    return load_data(open_data(DataSettings(data=str(path), **settings), folder))


def spoken(data: LoadedData) -> list[list[str]]:
    return [[one.content for one in chat.messages] for chat in data.conversations]


def lines(form: str) -> str:
    """Write three questions and answers in a form with `{}` for who speaks and for the text."""
    turns = [("ana", ASKED), ("shop", SAID)] * 3
    return "".join(form.format(who, text.format(at // 2)) for at, (who, text) in enumerate(turns))


WANTED = [[(ASKED, SAID)[at % 2].format(at // 2) for at in range(6)]]


@pytest.mark.parametrize(
    "text",
    [
        lines("<{}> {}\n"),
        lines("[12:01] <{}> {}\n"),
        lines("12:01:33 <@{}> {}\n").replace("12:01:33 <@shop>", "12:02:33 -!- eve has joined\n12:02:33 <@shop>", 1),
        lines("[2024-05-01 12:01:33] <{}> {}\n"),
        "[LINE] Chat history with ana\nSaved on: 2024/05/01 10:00\n\n2024/05/01(Wed)\n" + lines("10:01\t{}\t{}\n"),
    ],
)
def test_log_with_names_is_asked_about_and_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnclearAssistantError, match="“ana”, “shop”"):
        loaded(tmp_path, text)
    data = loaded(tmp_path, text, assistant="shop")
    assert spoken(data) == WANTED
    if text.startswith("[LINE]"):
        assert any("“[LINE] Chat history with ana”" in note for note in data.file.notes)


def test_lines_below_a_message_belong_to_it(tmp_path: Path) -> None:
    text = lines("<{}> {}\n").replace("below the lid.\n", "below the lid.\nTurn it left.\n", 1)
    assert spoken(loaded(tmp_path, text, assistant="shop"))[0][1] == "Valve 0 is below the lid.\nTurn it left."


@pytest.mark.parametrize("text", ["<b> bold </b>\n<i> italic </i>\n" * 5, "<step> a\n<step> b\n" * 5])
def test_markup_is_no_log(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).file.settings.format == "text"


def test_chat_that_was_copied_from_a_page_is_read(tmp_path: Path) -> None:
    text = lines("{} said:\n{}\n").replace("ana said", "You said").replace("shop said", "ChatGPT said")
    data = loaded(tmp_path, text)
    assert spoken(data) == WANTED
    assert [one.role for one in data.conversations[0].messages] == ["user", "assistant"] * 3


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@pytest.mark.parametrize("delimiter", "^~|;")
def test_table_with_a_rare_delimiter_is_read(tmp_path: Path, suffix: str, delimiter: str) -> None:
    text = f"question{delimiter}answer\n" + "".join(
        f"{ASKED.format(at)}{delimiter}{SAID.format(at)}\n" for at in range(8)
    )
    assert spoken(loaded(tmp_path, text, suffix))[7] == [ASKED.format(7), SAID.format(7)]


def test_text_with_carets_is_no_table(tmp_path: Path) -> None:
    text = "The ^ sign raises to a power.\nIt is read as: to the power of ^ again.\n" * 4
    assert loaded(tmp_path, text).file.settings.format == "text"


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("#separator:tab\n#html:true\n#tags column:3\n", "{q}\t{a}\tvalves\n"),
        ("#separator:Semicolon\n#html:false\n", '{q};"{a}"\n'),
        ("#separator:tab\n#guid column:1\n#notetype column:2\n", "x{n}\tBasic\t{q}\t{a}\n"),
    ],
)
def test_cards_of_anki_are_read(tmp_path: Path, head: str, row: str) -> None:
    cards = "".join(row.format(q=ASKED.format(n), a=SAID.format(n), n=n) for n in range(4))
    data = loaded(tmp_path, head + cards)
    assert spoken(data) == [[ASKED.format(n), SAID.format(n)] for n in range(4)]
    assert any("export of Anki" in note for note in data.file.notes)


def test_terms_of_quizlet_keep_their_first_line(tmp_path: Path) -> None:
    cards = "".join(f"valve {at}\ta part that opens and closes pipe {at}\n" for at in range(6))
    data = loaded(tmp_path, cards)
    assert len(data.conversations) == 6
    assert any("has no header" in note for note in data.file.notes)
    asked = "Your question\tOur reply\n" + "".join(f"{ASKED.format(at)}\t{SAID.format(at)}\n" for at in range(6))
    assert len(loaded(tmp_path, asked).conversations) == 6
