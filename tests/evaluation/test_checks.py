"""The checks that tests are made of: what passes, what fails and with which sentence, and what cannot be a check."""

from __future__ import annotations

import time

import pytest

from sft_app.errors import DataError
from sft_app.evaluation.checks import CHECKS, failures, parse_check, parse_checks

GERMAN = "Vielen Dank für Ihre Nachricht, wir kümmern uns sofort darum."
SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "pattern": "^A"}}}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
BOMB = {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}}
BOMB["$defs"]["a40"] = {"type": "integer"}


def failed(check: dict[str, object], text: str, finished: bool = True) -> str:
    return " ".join(failures(parse_checks([check]), text, finished))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"contains": "Order number"}, "your order\nNUMBER please"),
        ({"contains": "can't"}, "We can’t do that."),
        ({"contains": 5}, "It has 5 legs."),
        ({"contains_any": ["Paris", "London"]}, "It is london."),
        ({"contains_any": "Paris"}, "Paris"),
        ({"contains_none": ["as an AI"]}, ""),
        ({"regex": r"\bFH-\d{5}\b"}, "under FH-39046."),
        ({"json": True}, ' {"a": [1, null]}\n'),
        ({"json": SCHEMA}, '{"name": "Anna"}'),
        ({"json": {"format": "date-time"}}, '"2026-02-28T10:00:00.25+02:00"'),
        ({"json": {"format": "date-time"}}, '"2016-12-31T23:59:60Z"'),
        ({"json": {"format": "time"}}, '"23:59:60.5+00:00"'),
        ({"json": {"format": "uri"}}, '"https://shop.example/?id=3"'),
        ({"json": {"properties": {"requried": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {"x-note": 1}}}}, "{}"),
        ({"json": {"pattern": r"^\p{Lu}"}}, '"Ärger"'),
        ({"words": [2, 3]}, "two words"),
        ({"words": [None, 3]}, ""),
        ({"words": [8, 13]}, "您好，请问您的订单号是多少？"),
        ({"characters": [3, None]}, " abc "),
        ({"ended": True}, ""),
        ({"asks_question": True}, "Which one? Tell me."),
        ({"asks_question": True}, "“Which one?”"),
        ({"asks_question": True}, "哪一个？"),
        ({"asks_question": True}, "请问您的订单号是多少？我会尽快帮您处理。"),
        ({"asks_question": True}, "请问订单号是多少?我会尽快处理。"),
        ({"asks_question": True}, "Really?!"),
        ({"asks_question": True}, "Is it?..."),
        ({"asks_question": True}, "Is it ok?😊"),
        ({"asks_question": True}, "Ποιος είναι ο αριθμός σας;"),
        ({"asks_question": True}, "Ποιος\u037e"),
        ({"asks_question": True}, "**Which one?**"),
        ({"asks_question": False}, "Please wait a moment; thanks."),
        ({"asks_question": False}, "Call f(a, b); then a?.b"),
        ({"asks_question": False}, "See https://shop.example/?id=3 for it."),
        ({"language": "en"}, "The capital of France is Paris."),
        ({"language": "German"}, GERMAN),
        ({"language": "zh"}, "你好，今天怎么样"),
        ({"equals": "spam"}, " “Spam”. "),
        ({"equals": "-1"}, "-1"),
        ({"equals": "spam"}, "**spam.**"),
        ({"equals": "spam"}, "[Spam]!"),
        ({"equals": "垃圾邮件"}, "「垃圾邮件」。"),
        ({"equals": "!"}, "!"),
        ({"no_repetition": True}, "Yes. No. Yes. Thank you. It is on its way. Thank you."),
        ({"no_repetition": True}, "谢谢您。您的订单已经发货，预计三天后到达。谢谢您。"),
        ({"signs_as": "Anna"}, "It is on its way.\n\nKind regards,\nAnna"),
        ({"signs_as": "Anna"}, "It is on its way. Kind regards, Anna."),
        ({"signs_as": "Anna"}, "It is on its way.\n— Anna\nCustomer Care"),
        ({"signs_as": "Anna"}, "It is on its way.\nAnna, Customer Care"),
        ({"signs_as": "Anna"}, "I will look into it. Best regards Anna"),
        ({"signs_as": "Anna"}, "Best regards,\nAnna"),
        ({"signs_as": "Anna"}, "It is here. Med vänlig hälsning, Anna"),
        ({"signs_as": "Anna"}, "It is on its way. Thanks, Anna!"),
        ({"signs_as": "Anna"}, "It is on its way!\n\n**Anna** | Fernhill"),
        ({"signs_as": "Anna"}, "It is on its way. 😊 Anna"),
        ({"signs_as": "Anna"}, "It is on its way.\nAnna\nCustomer Care\nFernhill Ltd."),
        ({"signs_as": "田中"}, "ありがとうございます。田中"),
        ({"signs_as": "田中"}, "よろしくお願いいたします、田中"),
        ({"signs_as": "Anna-Maria"}, "It is on its way. Anna-Maria"),
        ({"signs_as": "🌻"}, "It is on its way. 🌻"),
        ({"signs_as": "Nell at Fernhill"}, "It is on its way. Nell at Fernhill"),
    ],
)
def test_an_answer_that_passes(check: dict[str, object], text: str) -> None:
    assert failed(check, text) == ""


@pytest.mark.parametrize(
    ("check", "text", "sentence"),
    [
        ({"contains": "order number"}, "Order it.", "The answer does not contain “order number”."),
        ({"contains_any": ["a b", "c"]}, "x", "The answer contains none of “a b”, “c”."),
        ({"contains_none": ["as an AI"]}, "As an ai, I", "The answer contains “as an AI”, which it must not."),
        ({"regex": r"^\d+$"}, "12 of them", "does not match the regular expression “^\\d+$”."),
        ({"json": True}, "", "not valid JSON: it is empty."),
        ({"json": True}, '```json\n{"a": 1}\n```', "wrapped in a code block"),
        ({"json": True}, '{"a": NaN}', "NaN is not a JSON value"),
        ({"json": True}, "[" * 100_000, "nested too deeply"),
        ({"json": SCHEMA}, "{}", "does not fit the schema: 'name' is a required property."),
        ({"json": SCHEMA}, '{"name": "Bo"}', "at $.name: 'Bo' does not match '^A'."),
        ({"json": {"format": "date"}}, '"not a date"', "'not a date' is not a 'date'"),
        ({"json": {"format": "date-time"}}, '"2026-02-30T10:00:00Z"', "is not a 'date-time'"),
        ({"json": {"format": "date-time"}}, '"2024-01-01T10:60:00Z"', "is not a 'date-time'"),
        ({"json": {"format": "date-time"}}, '"2024-01-01T10:00:61Z"', "is not a 'date-time'"),
        ({"json": {"format": "time"}}, '"25:00:00Z"', "is not a 'time'"),
        ({"json": {"format": "time"}}, '"10:60:00Z"', "is not a 'time'"),
        ({"json": {"format": "time"}}, '"10:00:00+05:60"', "is not a 'time'"),
        ({"json": {"format": "time"}}, '"10:60:60-05:00"', "is not a 'time'"),
        ({"json": {"format": "uri"}}, '"shop.example"', "is not a 'uri'"),
        ({"json": {**DRAFT_7, "dependencies": {"a": ["b"]}}}, '{"a": 1}', "'b' is a dependency of 'a'"),
        ({"json": {**DRAFT_7, "items": [{"type": "string"}]}}, "[1]", "1 is not of type 'string'"),
        ({"words": [2, 3]}, "one", "The answer has 1 word, expected at least 2 words."),
        ({"words": [0, 3]}, "a b c d", "The answer has 4 words, expected at most 3 words."),
        (
            {"words": [0, 3]},
            "请稍等一下。",
            "The answer has 5 words (each character of a script without spaces counts as one), expected at most 3",
        ),
        ({"characters": [0, 1]}, "ab", "The answer has 2 characters, expected at most 1 character."),
        ({"asks_question": True}, "No.", "The answer asks no question: nothing in it ends with a question mark."),
        ({"asks_question": False}, "Why?", "The answer asks a question, which it must not."),
        ({"language": "en"}, GERMAN, "The answer is in German, not in English."),
        ({"language": "en"}, "Yes.", "too short to tell its language, so it is not certain that it is in English."),
        ({"language": "en"}, "", "too short to tell its language"),
        ({"equals": "spam"}, "not spam", "The answer is “not spam”, not “spam”."),
        (
            {"no_repetition": True},
            "It is on its way. Fine. It is on its way!",
            "a sentence twice: “It is on its way!”.",
        ),
        ({"no_repetition": True}, "go on " * 20, "repeats itself: 95% of its 4-word sequences"),
        ({"no_repetition": True}, "谢谢" * 200, "repeats itself: 100% of its 8-character sequences"),
        ({"no_repetition": True}, "我们会尽快处理。好的。我们会尽快处理！", "a sentence twice: “我们会尽快处理！”."),
        ({"no_repetition": True}, "ขอบคุณครับ" * 20, "repeats itself"),
        ({"no_repetition": 0}, "a b c d e a b c d", "17% of its 4-word sequences occur earlier in it."),
        ({"signs_as": "Anna"}, "Ask Anna", "The answer is not signed “Anna”; it ends with “Ask Anna”."),
        ({"signs_as": "Anna"}, "Annabel", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Anna", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Anna, could you tell me your order number?", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Hello, Anna!", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "It is on its way. Have a nice day, Anna!", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "It is on its way. Welcome back, Anna!", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Thank you. Can I help you, Anna?", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Anna,\nI am sorry about that.", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Hi there.\nAnna-Maria will call.", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "It is on its way. Anna-Maria", "not signed “Anna”"),
        ({"signs_as": "Anna"}, "Give my regards to Anna.", "not signed “Anna”"),
        ({"signs_as": "Brown"}, "I will ask Dr. Brown", "not signed “Brown”"),
        ({"equals": "A+"}, "A-", "The answer is “A-”, not “A+”."),
        ({"equals": "C++"}, "C#", "not “C++”"),
        ({"equals": "C"}, "C#", "not “C”"),
        ({"equals": "5"}, "-5", "not “5”"),
        ({"equals": "50"}, "50%", "not “50”"),
        ({"equals": "<5"}, ">5", "not “<5”"),
        ({"equals": "$5"}, "€5", "not “$5”"),
        ({"equals": "NET"}, ".NET", "not “NET”"),
        ({"equals": "yes"}, "yes?", "not “yes”"),
        ({"signs_as": "Anna"}, "", "not signed “Anna”"),
    ],
)
def test_an_answer_that_fails_says_why(check: dict[str, object], text: str, sentence: str) -> None:
    assert sentence in failed(check, text)


def test_an_answer_that_was_cut_off_has_not_ended() -> None:
    assert "cut off at the length limit" in failed({"ended": True}, "It is", finished=False)


@pytest.mark.parametrize(
    ("check", "text", "sentence"),
    [
        ({"regex": r"^(a|aa)+$"}, "a" * 60 + "b", "took more than 1 s on this answer"),
        ({"json": {"pattern": r"^(a|aa)+$"}}, f'"{"a" * 60}b"', "took more than 2 s on this answer"),
        ({"json": BOMB}, "1", "took more than 2 s on this answer"),
        ({"json": {"$ref": "#"}}, "1", "could not be compared with the JSON schema"),
    ],
)
def test_a_check_from_a_stranger_ends(check: dict[str, object], text: str, sentence: str) -> None:
    started = time.monotonic()
    assert sentence in failed(check, text)
    assert time.monotonic() - started < 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("contains", "Checks must be a list, such as - contains: order number, got 'contains'."),
        (["contains"], "Check 1 must be a name and an argument, such as contains: hello, got 'contains'."),
        ([{"ended": True}, {"contain": "a"}], "Check 2: There is no check 'contain'. Did you mean 'contains'?"),
        ([{"xyz": "a"}], "There is no check 'xyz'. The checks are: contains, contains_any"),
        ([{"contains": ""}], "'contains' cannot be used with ''. It needs a text, for example contains: order number."),
        ([{"contains_any": []}], "'contains_any' cannot be used with \\[\\]. It needs a list of texts"),
        ([{"regex": "("}], "cannot be used with '\\(': missing \\)"),
        ([{"regex": "a" * 1001}], "it has more than 1,000 characters"),
        ([{"json": False}], "It needs true, or a JSON schema"),
        ([{"json": {"type": "nothing"}}], "the JSON schema is not valid: 'nothing' is not valid"),
        ([{"json": {"$ref": "http://127.0.0.1/s"}}], "only references inside the file are allowed"),
        ([{"json": {"items": {"patternProperties": {}}}}], "uses patternProperties, which cannot be checked here"),
        ([{"regex": "((a{9999}){9999})"}], "its repetitions multiply to too many"),
        ([{"json": {"items": {"pattern": "((a{9999}){9999})"}}}], "the pattern .* cannot be used: its repetitions"),
        ([{"json": {"requried": ["name"]}}], "the unknown keyword 'requried'; did you mean 'required'"),
        ([{"json": {"properties": {"a": {"nullable": True}}}}], "the unknown keyword 'nullable'; it would be ignored"),
        ([{"json": {"dependencies": {"a": ["b"]}}}], "the unknown keyword 'dependencies'"),
        ([{"json": {"format": "hostname"}}], "uses the format 'hostname'; those that can be checked are date, email"),
        ([{"json": {"$schema": "draft-07"}}], "'draft-07' is unknown; drafts 4 to 2020-12 can be checked"),
        ([{"json": {"$ref": "#/$defs/a"}}], "refers to '#/\\$defs/a', and there is no schema in that place"),
        (
            [{"json": {**DRAFT_7, "$ref": "#", "type": "object"}}],
            "type next to \\$ref, where this draft ignores",
        ),
        ([{"json": {"items": {"$id": "a"}}}], "uses \\$id, which cannot be checked here"),
        ([{"contains_none": "Hello, Anna"}], "it could be one text or 2; put it in brackets"),
        ([{"words": [5, 3]}], "the smaller number comes first"),
        ([{"words": 5}], "It needs the smallest and the largest number of words, for example words: \\[5, 110\\]."),
        ([{"words": [True, 3]}], "It needs the smallest and the largest number of words"),
        ([{"ended": False}], "It needs true \\(delete the check if you do not want it\\)"),
        ([{"language": "tlh"}], "this language is unknown"),
        ([{"no_repetition": 3}], "the largest share of repeated 4-word sequences"),
        ([{"signs_as": None}], "It needs a name"),
        ([{"signs_as": "-"}], "it is only punctuation.* It needs a name, for example signs_as: Anna"),
        ([{"signs_as": "..."}], "it is only punctuation"),
        ([{"signs_as": " ** "}], "it is only punctuation"),
    ],
)
def test_what_cannot_be_a_check(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_checks(value)


@pytest.mark.parametrize("line", [".", "!", "。", ". ", ".'", "a", "a - ", "anna. ", "- "])
@pytest.mark.parametrize("name", ["Anna", "🌻"])
def test_a_long_last_line_is_judged_in_seconds(line: str, name: str) -> None:
    started = time.process_time()
    text = "It is on its way.\n" + (line * 30_000)[:30_000]
    assert "not signed" in failed({"signs_as": name}, f"{text}?")
    assert failed({"signs_as": name}, f"{text}\nRegards,\n{name}") == ""
    assert time.process_time() - started < 20


def test_checks_are_read_from_a_list_or_a_mapping_and_written_as_they_were() -> None:
    checks = parse_checks([{"contains": "a", "ended": True}, {"words": [1, None]}])
    assert [check.as_dict() for check in checks] == [{"contains": "a"}, {"ended": True}, {"words": [1, None]}]
    assert parse_checks({"contains": "a"}) == parse_checks([{"contains": "a"}])
    assert parse_checks(None) == ()
    assert str(checks[2]) == "words: [1, null]"


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_accepts_its_own_example(name: str) -> None:
    import yaml

    assert parse_check(name, yaml.safe_load(CHECKS[name].example)).name == name
