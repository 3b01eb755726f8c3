"""Files of tests that people write: what is read, what is refused with which sentence, and what is written back."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_app.errors import DataError
from sft_app.evaluation.suites.tests_file import parse_tests, read_tests, read_tests_text, suite_jsonl, suite_yaml

YAML = r"""
all:
  - ended: true
tests:
  - name: lost parcel
    prompt: Where is my parcel?
    checks:
      - contains: order number
      - regex: '\bFH-\d{5}\b'
      - equals: no
      - contains: 1.50
  - messages:
      - {role: system, content: Be kind.}
      - {role: user, content: Hi}
      - {role: assistant, content: Hello.}
      - {role: user, content: Bye}
"""
JSONL = """{"all": [{"ended": true}]}
{"name": "one", "prompt": "Hi", "checks": [{"contains": 1.50}]}

{"prompt": "Bye"}
"""


def test_yaml_is_read_as_it_is_meant() -> None:
    suite = read_tests_text(YAML, "tests.yaml")
    first, second = suite.tests
    assert (first.name, first.prompt, second.name, second.prompt) == (
        "lost parcel",
        "Where is my parcel?",
        "test 2",
        "Bye",
    )
    assert [check.value for check in first.checks] == ["order number", r"\bFH-\d{5}\b", "no", "1.50"]
    assert [check.name for check in suite.checks_of(second)] == ["ended"]
    assert [message["role"] for message in second.messages] == ["system", "user", "assistant", "user"]


def test_jsonl_is_read_line_by_line() -> None:
    suite = read_tests_text(JSONL, "tests.jsonl", is_jsonl=True)
    assert [test.name for test in suite.tests] == ["one", "test 2"]
    assert suite.tests[0].checks[0].value == "1.50" and suite.for_all[0].name == "ended"


@pytest.mark.parametrize("suffix", ["yaml", "jsonl", "json"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    suite = read_tests_text(YAML, "x")
    file = tmp_path / f"tests.{suffix}"
    texts = {"jsonl": suite_jsonl(suite), "yaml": suite_yaml(suite), "json": json.dumps(suite.as_dict())}
    file.write_text(texts[suffix], encoding="utf-8")
    again = read_tests(file)
    assert (again.tests, again.for_all, again.origin) == (suite.tests, suite.for_all, file.name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.yaml contains no tests. Each test needs a prompt and checks."),
        ("tests: []", "contains no tests"),
        ("tests: {a: b}", "`tests` must be a list of tests, got dict"),
        ("test: []", "unknown key 'test'. Did you mean 'tests'"),
        ("- prompt: [", "cannot be read as YAML: line 1: "),
        ("- &a {prompt: x, checks: [ended: true]}\n- *a", "line 2: references .* are not supported"),
        ("- {prompt: x, prompt: y}", "line 1: 'prompt' occurs twice"),
        ("- !!python/object/apply:os.system [ls]", "cannot be read as YAML: line 1"),
        ("- hello", "t.yaml, test 1 .line 1.: a test needs a prompt and checks, got 'hello'"),
        ("- {prompt: x}", "test 1 .line 1.: it has no checks"),
        ("\n- {prompt: x, checks: [contain: y]}", "test 1 .line 2.: Check 1: There is no check 'contain'"),
        ("- {checks: [ended: true]}", "it needs either a prompt or messages"),
        ("- {promt: x, checks: [ended: true]}", "unknown key 'promt'. Did you mean 'prompt'"),
        ("- {prompt: '', checks: [ended: true]}", "the prompt must be a text"),
        ("- {messages: [{role: assistant, content: x}], checks: [ended: true]}", "message 1 must be a text from the u"),
        (
            "- {messages: [{role: user, content: x}, {role: assistant, content: y}], checks: [ended: true]}",
            "the last message must come from the user",
        ),
        (
            "- {name: a, prompt: x, checks: [ended: true]}\n- {name: a, prompt: y, checks: [ended: true]}",
            "test 2 .line 2.: test 1 is also called 'a'. Give each test a name of its own",
        ),
        ("all: [ended: 5]\ntests: [{prompt: x}]", "t.yaml, checks for all tests: Check 1: The check 'ended'"),
        ("- {prompt: x, checks: [words: !!int abc]}", "line 1: types such as !!int are not supported; leave it out"),
        ("- {prompt: x, checks: [no_repetition: !!float abc]}", "types such as !!float are not supported"),
        ("- {prompt: x, checks: [contains: !!timestamp x]}", "types such as !!timestamp are not supported"),
        ("- {prompt: !text x, checks: [ended: true]}", "types such as !text are not supported"),
        ("- {prompt: x, checks: [json: {const: " + "[" * 60 + "]" * 60 + "}]}", "'json' is nested too deeply"),
        ("[" * 3000, "cannot be read as YAML: it is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tests_text(text, "t.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "x", "checks": [{"ended": true}]}\n{', "t.jsonl, line 2 cannot be read as JSON"),
        ('{"prompt": "x", "prompt": "y"}', "line 1 cannot be read as JSON: a key occurs twice"),
        ('{"prompt": "x", "checks": [{"contains": NaN}]}', "line 1 cannot be read as JSON: NaN is not a JSON value"),
        ("[" * 100_000, "line 1 cannot be read as JSON"),
        ('\n{"prompt": "x"}', "test 1 .line 2.: it has no checks"),
    ],
)
def test_a_line_that_cannot_be_used_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tests_text(text, "t.jsonl", is_jsonl=True)


@pytest.mark.parametrize("is_jsonl", [False, True])
def test_numbers_are_texts_where_texts_are_needed_and_numbers_in_a_schema(is_jsonl: bool) -> None:
    schema = '{"const": 1.50, "enum": [2.50, 1e2, 12345678901234567], "maximum": 100.00}'
    text = f'{{"prompt": "x", "checks": [{{"json": {schema}}}, {{"contains_any": [1.50, 1e2, 3]}}]}}'
    suite = read_tests_text(text if is_jsonl else f"[{text}]", "t", is_jsonl)
    json_check, texts = suite.tests[0].checks
    assert json_check.value == {"const": 1.5, "enum": [2.5, 100, 12345678901234567], "maximum": 100}
    assert texts.value == ("1.50", "1e2", "3")
    assert read_tests_text(suite_yaml(suite), "t").tests == suite.tests
    assert read_tests_text(suite_jsonl(suite), "t", is_jsonl=True).tests == suite.tests


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_separators_of_lines_inside_a_text_are_written_and_read_again(separator: str) -> None:
    suite = parse_tests([{"prompt": f"a{separator}b", "checks": [{"contains": f"c{separator}d"}]}])
    assert read_tests_text(suite_jsonl(suite), "t.jsonl", is_jsonl=True).tests == suite.tests
    assert read_tests_text(suite_yaml(suite), "t.yaml").tests == suite.tests


def test_json_is_read_as_json(tmp_path: Path) -> None:
    """Not as YAML, in which 😀 as two escapes would be two halves, and a separator of lines a space."""
    file = tmp_path / "t.json"
    file.write_text('[{"prompt": "\\ud83d\\ude00\u2028x", "checks": [{"contains": 1.50}]}]', encoding="utf-8")
    test = read_tests(file).tests[0]
    assert test.prompt == "😀\u2028x" and test.checks[0].value == "1.50"
    file.write_text("- prompt: x")
    with pytest.raises(DataError, match="t.json cannot be read as JSON"):
        read_tests(file)


@given(st.text(alphabet="-!&*?:[]{},'\"|>%@ \n\tax<0.1e~#", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    for value in (text, f"- {{prompt: x, checks: [contains: {text}]}}", f"- !!{text}"):
        with suppress(DataError):
            read_tests_text(value, "t.yaml")


def test_only_files_of_tests_are_read(tmp_path: Path) -> None:
    for name, content, message in (
        ("t.txt", b"x", "got '.txt'"),
        ("t.yaml", b"\xff", "not UTF-8"),
        ("t.jsonl", b" " * (5 * 2**20 + 1), "larger than 5 MB"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_tests(tmp_path / name)
    with pytest.raises(DataError, match="No such file"):
        read_tests(tmp_path / "none.yaml")


def test_tests_are_chosen_by_name() -> None:
    suite = parse_tests([{"name": name, "prompt": "x", "checks": [{"ended": True}]} for name in ("one", "two")])
    assert [test.name for test in suite.chosen(["two"]).tests] == ["two"]
    assert suite.chosen([]) == suite
    with pytest.raises(DataError, match="There is no test 'tow'. Did you mean 'two'"):
        suite.chosen(["tow"])
