"""The encoding of a file is found out and said, or the file is refused with the name of the likely one."""

from __future__ import annotations

import pytest

from sft_app.data.sources.encodings import as_utf8, guess_encoding
from sft_app.data.sources.lines import UnreadableFileError

TEXTS = {
    "cp1251": "вопрос;ответ\nКогда вы открыты?;Каждый будний день с девяти утра.\n",
    "koi8_r": "вопрос;ответ\nКогда вы открыты?;Каждый будний день с девяти утра.\n",
    "gb18030": "问题,回答\n你们几点开门？,工作日早上九点开门。\n",
    "big5": "問題,回答\n你們幾點開門？,工作日早上九點開門。\n",
    "cp932": "質問,答え\n何時に開きますか？,平日は朝九時に開きます。\n",
    "cp949": "질문,답변\n언제 문을 여나요?,평일 아침 아홉 시에 엽니다.\n",
    "cp1253": "ερώτηση,απάντηση\nΠότε ανοίγετε;,Κάθε καθημερινή στις εννέα το πρωί.\n",
}
SAID = {"gb18030": "GBK", "cp932": "Shift-JIS", "cp1251": "Windows-1251", "koi8_r": "KOI8-R"}


CENTRAL = {
    "Když zavolám, kdy přijede můj balík?;Zítra kolem deváté, doručíme ho domů.\n": "cp1250",
    "Mikor jön az őszi csomag?;Holnap reggel, a fűzfa utcába.\n": "cp1250",
    "Jak długo trwa wysyłka?;Zwykle dwa dni, później łatwo ją śledzić.\n": "cp1250",
    "Otázka;Odpověď\n": "cp1250",
    "Ne zaman açıyorsunuz?;Şimdi değil, sabah dokuzda açarız. Işığı görürsünüz, İyi günler.\n": "cp1254",
}
"""Written like Windows-1252, with other letters in a few places."""


@pytest.mark.parametrize("text", CENTRAL)
def test_letters_tell_neighbours_of_windows_1252_apart(text: str):
    said = {"cp1250": "Windows-1250", "cp1254": "Windows-1254"}[CENTRAL[text]]
    assert converted(text.encode(CENTRAL[text])) == (
        text,
        [f"The file is not UTF-8; it is read as {said}. Check the letters."],
    )


def converted(content: bytes) -> tuple[str, list[str]]:
    notes: list[str] = []
    return b"".join(as_utf8(iter([content]), notes)).decode(), notes


@pytest.mark.parametrize("repeated", [1, 3, 2000])
@pytest.mark.parametrize("encoding", TEXTS)
def test_encoding_is_found_out_and_said(encoding: str, repeated: int):
    text, notes = converted((TEXTS[encoding] * repeated).encode(encoding))
    assert text == TEXTS[encoding] * repeated
    assert len(notes) == 1
    assert SAID.get(encoding, "read as") in notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "Wann öffnen Sie?;Um neun – „pünktlich“. Es kostet 5 €.\n",
        "Quand ouvrez-vous ?;À neuf heures, été comme hiver ; l’œuvre est là.\n",
        "¿Cuándo abren?;Mañana a las nueve, señor.\n",
        "It’s £5 at the café\n",
        "Quando abrem?;Amanhã às nove, não há exceções.\n",
        "Hvornår åbner I?;Klokken ni, også når det regner, på Ærø.\n",
        "Hvenær opnið þið?;Klukkan níu, á hverjum degi, líka þegar rignir.\n",
        "Quand ?;À neuf heures, même l’été.\nWann?;Um neun, für alle, die früh da sind, außer größeren Gruppen.\n",
    ],
)
def test_western_text_is_left_to_the_lines(text: str):
    content = text.encode("cp1252")
    assert list(as_utf8(iter([content]), [])) == [content]


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("מתי אתם פותחים?;אנחנו פותחים בתשע בבוקר, בכל יום.\n", "cp1255", "Windows-1255"),
    ],
)
def test_uncertain_encoding_is_refused_by_name(text: str, encoding: str, name: str):
    with pytest.raises(UnreadableFileError, match=f"^the text is not UTF-8; it is probably .*{name}.*; save the file"):
        converted(text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "问题,回答\n你们几点开门？,工作日早上九点开门。\n"])
def test_utf16_needs_no_mark(text: str, encoding: str):
    assert converted(text.encode(encoding)) == (text, ["The file is read as UTF-16; it has no byte order mark."])


def test_damaged_utf8_is_left_to_the_lines():
    content = ("Größe und Länge\n" * 5).encode() + b"\xff\n"
    assert list(as_utf8(iter([content]), [])) == [content]


def test_encoding_that_changes_within_the_file_is_a_fault():
    blocks = as_utf8(iter([b"plain text\n" * 10_000, TEXTS["cp1251"].encode("cp1251")]), [])
    assert next(blocks).startswith(b"plain")
    with pytest.raises(UnreadableFileError, match="^the text from here on looks like Windows-1251, not UTF-8; save"):
        list(blocks)


@pytest.mark.parametrize("encoding", ["mac_roman", "cp850"])
@pytest.mark.parametrize(
    "text",
    [
        "Où est la clé de l'hôtel ? Désolé, elle a été à côté, très sûr.",
        "Wo hängen die Schlüssel für größere Räume? Über der Tür.",
        "¿Dónde está la habitación del niño? Sí, mañana en el jardín.",
    ],
)
def test_old_western_encodings_are_refused_by_name(text: str, encoding: str) -> None:
    name = {"mac_roman": "Mac Roman", "cp850": "CP850"}[encoding]
    with pytest.raises(UnreadableFileError, match=f"probably {name}"):
        guess_encoding(text.encode(encoding))
    assert guess_encoding(text.encode("cp1252")) == ""
