"""Faults in one text: what is found, what is left alone, and what the repairs make of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sft_app.data.checkup.markers import remove_markers
from sft_app.data.checkup.personal_data import mask_personal_data, personal_kinds
from sft_app.data.checkup.text_checks import repair_encoding, strip_html
from sft_app.data.checkup.text_checks import suspicious as suspicious_text

EXAMPLE = Path(__file__).parents[3] / "examples" / "customer_service.jsonl"
GITHUB_KEY = "ghp_" + "a1B2" * 9
REPAIRS: dict[Callable[[str], str], set[str]] = {
    repair_encoding: {"control"},
    strip_html: {"html"},
    remove_markers: {"marker"},
    mask_personal_data: {"personal_email", "personal_phone", "personal_card", "personal_key"},
}
PIECES = (
    "a b A 1 0 555 0151 4111 \n \t ` ``` < > & ; / | # @ + - ( ) . : é ’ Ã ¤ â € ™ \x93 \u200b \u200d \ufeff \x1b[ "
    "31m \x00 <p> </p> <br/> &amp; &lt; <b> </b> <| im_end |> <|im_start|> <s> [INST] ### Response: \nUser: "
    "\nAssistant: me@host.org 555-123-4567 4111111111111111 sk- AKIA 🙂 क ् م <!-- --> <html"
)
MESSY = st.lists(st.sampled_from(PIECES.split(" ")) | st.just(" ") | st.text(max_size=3), max_size=20).map("".join)


def suspicious(text: str) -> tuple[str, ...]:
    return suspicious_text(text) + personal_kinds(text)


# suspicious


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("encoding", "I donâ€™t know"),
        ("encoding", "FranÃ§ois"),
        ("encoding", "good ’ and bad â€™"),
        ("encoding", "a \x93quoted\x94 word"),
        ("encoding", "Р—Р°РєР°Р·"),
        ("replacement", "Fran\ufffdois"),
        ("control", "a\x00b"),
        ("control", "\x1b[31mred\x1b[0m"),
        ("control", "zero\u200bwidth"),
        ("control", "\ufeffstart"),
        ("control", "left\u200d right"),
        ("control", "turned \u202eround"),
        ("html", "<p>Hello"),
        ("html", "one<br/>two"),
        ("html", "end</div>"),
        ("html", "fish&nbsp;&amp;&nbsp;chips"),
        ("html", "it&#39;s"),
        ("html", 'see <a href="https://fernhill.test">here</a>'),
        ("html", "<b>bold</b>"),
        ("html", "`x` but <span class='y'>z"),
        ("marker", "Hello<|im_end|>"),
        ("marker", "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"),
        ("marker", "<start_of_turn>model\nHi<end_of_turn>"),
        ("marker", "[INST] Hi [/INST]"),
        ("marker", "<<SYS>>Be kind<</SYS>>"),
        ("marker", "Bye</s>"),
        ("marker", "### Response:\nYes"),
        ("inner_marker", "Hi\nUser: one\nAssistant: two"),
        ("inner_marker", "Human: one\nAssistant: two"),
        ("inner_marker", "It is put between [INST] and [/INST] there."),
        ("inner_marker", "The last one is [/INST]"),
        ("inner_marker", "### Response: within two days"),
        ("inner_marker", "Hello<|im_end|>\n<|im_start|>user\nAnd you?"),
        ("personal_email", "write to nell.b@fernhill.co.uk."),
        ("personal_phone", "+44 20 7946 0958"),
        ("personal_phone", "call +49 (0)151 2345678 now"),
        ("personal_phone", "(555) 123-4567"),
        ("personal_phone", "Tel:555-123-4567, ask for Nell"),
        ("personal_phone", "0151 2345678"),
        ("personal_phone", "020 7946 0958"),
        ("personal_phone", "06 12 34 56 78"),
        ("personal_card", "4111 1111 1111 1111"),
        ("personal_card", "5555-5555-5555-4444."),
        ("personal_card", "378282246310005"),
        ("personal_card", "3782 822463 10005"),
        ("personal_key", "my key is sk-proj-abcdefghij0123456789"),
        ("personal_key", GITHUB_KEY),
        ("personal_key", "hf_" + "aB3" * 11),
        ("personal_key", "AKIAIOSFODNN7EXAMPLE"),
        ("personal_key", "xoxb-123456789012-abc"),
        ("personal_key", "Authorization: Bearer abcdefghijkl0123456789ABCDEF"),
        ("personal_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
    ],
)
def test_fault_is_found_alone(kind: str, text: str):
    assert suspicious(text) == (kind,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain text,\twith a tab\r\nand lines.",
        "“Curly” – it’s fine… 5 €, naïve café, «да», Größe, où est « l’été » ?",
        "NÃO está à venda, SÃO João",
        "Привет, где мой «заказ»? 我的订单在哪里？ 주문 Tiếng Việt",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467 heart ❤\ufe0f\u200d\U0001f525",
        "می\u200cخواهم क्\u200dष",
        "What????",
        "if a < b and c > d, or a<b and c>d: I <3 it & you",
        "List<int>, Map<String, T>, Vec<a>, Box<B>, Dear <name>, <title>, <your email>",
        "AT&T; R&D; a &= b; x && y",
        "Use `<br>` here:\n```html\n<p>one &amp; two</p>\n```",
        "<!DOCTYPE html>\n<html><body><p>Hi</p></body></html>",
        "```\n<p>not closed",
        "It costs <s>9</s> 8 euros",
        "<s>9</s> 8 euros",
        "الرقم \u200f+0\u200f (AB-0)",
        "<|begin_of_thought|>\nHm.\n<|end_of_thought|> is the author's own mark",
        "xs |> map f <| y; a <|> b; array[INSTALL]; the #1 choice; ## Response",
        "The User: field is required",
        "Human: only one side",
        "@nell, pip install app@1.2.3, someone@example.com",
        "order #48213, FH-20931, 20240512-0093, parcel 1234567890",
        "on 2024-05-12, 12/05/2024, 12.05.2024, 2019-2020, 2024-05-12 10:30:00, 1990-2000-2010",
        "$1,234,567.89, 1.234.567,89 €, +10 000 000, 0.0151 2345678",
        "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, 9783161484100",
        "version 10.15.7.1024, 192.168.100.200, 127.0.0.1:8080, 02138-1234",
        "10 20 30 40 50 60 70 80 90 100, 0110 1001 1100 0011, 5105 0151 2345 678",
        "4111 1111 1111 1112",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "a task-force-of-many-many-words-2024, sk-learn, hf_hub, xox, AKIA, the bearer of a very long letter",
    ],
)
def test_ordinary_text_is_left_alone(text: str):
    assert suspicious(text) == ()
    assert [repair(text) for repair in REPAIRS] == [text] * 4


def test_kinds_come_in_a_fixed_order():
    text = "555-123-4567 a@b.org <|im_end|> <br> \x00 \ufffd donâ€™t 4111111111111111 " + GITHUB_KEY
    personal = ("personal_email", "personal_phone", "personal_card", "personal_key")
    assert suspicious(text) == ("encoding", "replacement", "control", "html", "inner_marker", *personal)


def test_bundled_example_has_no_fault():
    rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    texts = [message["content"] for row in rows for message in row["messages"]]
    assert len(texts) > 400
    assert [text for text in texts if suspicious(text)] == []


# repairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I donâ€™t know", "I don’t know"),
        ("FranÃ§ois", "François"),
        ("good ’ and bad â€™", "good ’ and bad ’"),
        ("a \x93quoted\x94 word", "a “quoted” word"),
        ("Р—Р°РєР°Р·", "Заказ"),
        ("page\x0cpage", "page\npage"),
        ("\ufeffa\x00b\u200b c\u200d", "ab c"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a \U0001f468\u200d\U0001f469\u200d b", "a \U0001f468\u200d\U0001f469 b"),
        ("lost: Fran\ufffdois", "lost: Fran\ufffdois"),
    ],
)
def test_encoding_is_repaired(text: str, expected: str):
    assert repair_encoding(text) == expected


@pytest.mark.parametrize("codec", ["latin-1", "sloppy-windows-1252", "sloppy-windows-1254"])
@pytest.mark.parametrize(
    "text", ["don’t “stop” — now", "François était là", "Größe über Straße", "Где заказ?", "Zażółć"]
)
def test_wrong_decoding_of_a_whole_text_is_undone(text: str, codec: str):
    wrong = text.encode().decode(codec)
    assert "encoding" in suspicious(wrong)
    assert repair_encoding(wrong) == text


def test_lost_characters_stay_to_be_seen():
    text = "Itâ€? gone and donâ€™t"
    assert "encoding" in suspicious(repair_encoding(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>One</p><p>Two &amp; three</p>", "One\n\nTwo & three"),
        ("one<br/>two<BR>\nthree", "one\ntwo\nthree"),
        ("<ul><li>one</li><li>two</li></ul>", "one\ntwo"),
        ("a&nbsp;b", "a b"),
        ('<a href="x">link</a>, <b>bold</b>', "link, bold"),
        ("<tr><td>1</td><td>2</td></tr>", "1 2"),
        ("x<script>let y = '<p>'</script><!-- no -->z", "xz"),
        ("<b>bold</b> but Dear <name> and List<int>", "bold but Dear <name> and List<int>"),
        ("&lt;p&gt;escaped twice&amp;amp;", "escaped twice&"),
        ("<i>run</i>\n```\n<p>  code &amp;</p>\n```", "run\n```\n<p>  code &amp;</p>\n```"),
        ("<p>keep\n    indents</p>", "keep\n    indents"),
    ],
)
def test_html_becomes_plain_text(text: str, expected: str):
    assert strip_html(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|im_start|>assistant\nHello<|im_end|>\n", "Hello"),
        ("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "Hi"),
        ("<start_of_turn>model\nHi<end_of_turn>", "Hi"),
        ("<s>[INST] Hi [/INST]", "Hi"),
        ("### Response:\nHi", "Hi"),
        ("Hi\n\n### Instruction:\n", "Hi"),
        ("It is here. </s>", "It is here."),
        ("Hi<|im_end|>\n<|im_start|>user\n", "Hi"),
    ],
)
def test_markers_are_removed(text: str, expected: str):
    assert remove_markers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to a.b@c.org or call (555) 123-4567.", "Write to [email] or call [phone]."),
        ("+44 20 7946 0958, 0151 2345678", "[phone], [phone]"),
        ("card 4111 1111 1111 1111, thanks", "card [card number], thanks"),
        ("Bearer abcdefghijkl0123456789ABCDEF", "Bearer [key]"),
        (f"{GITHUB_KEY} and AKIAIOSFODNN7EXAMPLE", "[key] and [key]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nbye", "[key]\nbye"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str):
    assert mask_personal_data(text) == expected


@pytest.mark.parametrize("repair", REPAIRS)
@given(text=MESSY)
def test_clean_text_is_left_as_it_is(repair: Callable[[str], str], text: str):
    assume(suspicious(text) == ())
    assert repair(text) == text


@pytest.mark.parametrize("repair", REPAIRS)
@given(text=MESSY)
def test_fault_is_gone_after_its_repair_and_a_second_repair_changes_nothing(repair: Callable[[str], str], text: str):
    repaired = repair(text)
    assert not REPAIRS[repair] & set(suspicious(repaired))
    assert repair(repaired) == repaired


@pytest.mark.parametrize("beginning", ["<!--", "<script>", "<script><style>", "<p>" + " " * 1000, "<p a", "```", "`"])
def test_a_text_full_of_beginnings_takes_no_time(beginning: str) -> None:
    """One row of an upload must not hold up everybody else."""
    started = time.process_time()
    suspicious(beginning * (500_000 // len(beginning)))
    assert time.process_time() - started < 5.0
