"""Contest problems become a task and a program that solves it; the tests of a problem are never shown."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.converters.code_contests import from_code_contests
from sft_app.errors import DataError, NotChosen
from sft_app.settings import DataSettings

SOLUTIONS = [(2, "int main() {}\n"), (3, "print(1)"), (1, "print 1"), (3, "print(2)"), (4, "class A {}"), (0, "?")]
TESTS = {"input": ["SECRET 1"], "output": ["SECRET 2"]}


def problem(solutions: Any = None, description: str = "Add a and b.\n") -> dict[str, Any]:
    """A row with the columns of the Hub's dataset."""
    return {
        "name": "1_A. Sum",
        "description": description,
        "public_tests": TESTS,
        "private_tests": TESTS,
        "generated_tests": TESTS,
        "source": 2,
        "difficulty": 7,
        "solutions": struct_of_lists() if solutions is None else solutions,
        "incorrect_solutions": {"language": [3], "solution": ["SECRET 3"]},
        "cf_tags": ["math"],
        "untranslated_description": "SECRET 4",
        "time_limit": {"seconds": 1, "nanos": 0},
    }


def struct_of_lists() -> dict[str, Any]:
    return {"language": [language for language, _ in SOLUTIONS], "solution": [code for _, code in SOLUTIONS]}


def list_of_structs(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"language": names[language], "solution": code} for language, code in SOLUTIONS]


def convert(row: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    """Question and answer of every conversation."""
    made = [make_conversation(messages) for messages in from_code_contests(row, DataSettings(**settings))]
    assert all([message.role for message in item.messages] == ["user", "assistant"] for item in made)
    return [(item.question(), item.answers()[0]) for item in made]


def test_first_solution_in_python_3_is_the_answer():
    assert convert(problem()) == [("Add a and b.\n\nSolve this in Python 3.", "```python\nprint(1)\n```")]


@pytest.mark.parametrize(
    ("language", "title", "answer"),
    [
        ("python2", "Python 2", "```python\nprint 1\n```"),
        ("cpp", "C++", "```cpp\nint main() {}\n```"),
        ("java", "Java", "```java\nclass A {}\n```"),
    ],
)
def test_language_is_the_chosen_one(language: str, title: str, answer: str):
    assert convert(problem(), code_language=language) == [(f"Add a and b.\n\nSolve this in {title}.", answer)]


@pytest.mark.parametrize(
    "names",
    [
        ("UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"),
        ("?", "python2", "cpp", "python3", "java"),
        ("", "Python 2", "C++", "Python 3", "Java"),
        ("None", "py2", "c++", "py3", " JAVA "),
    ],
)
@pytest.mark.parametrize("language", ["python2", "cpp", "python3", "java", "any"])
def test_both_layouts_and_every_spelling_give_the_same(names: tuple[str, ...], language: str):
    settings = {"code_language": language, "solutions_per_problem": 9}
    assert convert(problem(list_of_structs(names)), **settings) == convert(problem(), **settings)


@pytest.mark.parametrize(
    ("most", "codes"), [(1, ["print(1)"]), (2, ["print(1)", "print(2)"]), (9, ["print(1)", "print(2)"])]
)
def test_so_many_solutions_as_are_asked_for(most: int, codes: list[str]):
    answers = [answer for _, answer in convert(problem(), solutions_per_problem=most)]
    assert answers == [f"```python\n{code}\n```" for code in codes]


def test_any_language_takes_them_in_order_and_names_the_known_ones():
    made = convert(problem(), code_language="any", solutions_per_problem=9)
    tasks = [question.removeprefix("Add a and b.\n\n") for question, _ in made]
    assert tasks == [
        "Solve this in C++.",
        "Solve this in Python 3.",
        "Solve this in Python 2.",
        "Solve this in Python 3.",
        "Solve this in Java.",
        "Solve this.",
    ]
    assert made[-1][1] == "```\n?\n```"


def test_indent_of_the_first_line_is_kept():
    code = "\n    x = 1\n    print(x)\n\n"
    assert convert(problem([{"language": 3, "solution": code}]))[0][1] == "```python\n    x = 1\n    print(x)\n```"


def test_tests_and_wrong_solutions_never_appear():
    made = from_code_contests(problem(), DataSettings(code_language="any", solutions_per_problem=1000))
    assert len(made) == 6
    assert "SECRET" in json.dumps(problem())
    assert "SECRET" not in json.dumps(made)


@pytest.mark.parametrize(
    ("solutions", "language", "reason"),
    [
        ([], "python3", "it has no solution in Python 3"),
        ([{"language": 2, "solution": "int main() {}"}], "java", "it has no solution in Java"),
        (
            [{"language": 3, "solution": " \n"}, {"language": 3, "solution": None}],
            "any",
            "it has no solution in any lan",
        ),
        (
            [{"language": 9, "solution": "?"}, {"language": -1, "solution": "?"}],
            "python3",
            "it has no solution in Pyth",
        ),
    ],
)
def test_problem_without_a_chosen_solution_is_left_out_by_choice(solutions: Any, language: str, reason: str):
    with pytest.raises(NotChosen, match=f"^{reason}"):
        convert(problem(solutions), code_language=language)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (problem(description=" "), "`description` must be text"),
        ({**problem(), "description": None}, "`description` must be text"),
        (problem(description="See <image> below."), "its description refers to a picture"),
        (problem({"language": [3], "solution": []}), "`solutions` must contain as many languages as solutions"),
        (problem({"language": 3, "solution": "a"}), "`solutions` must contain as many languages as solutions"),
        (problem({}), "`solutions` must contain as many languages as solutions"),
        (problem(["print(1)"]), "`solutions` must be a list of {language, solution}, got a list"),
        (problem("print(1)"), "`solutions` must be a list of {language, solution}, got a string"),
        ({"description": "Add."}, "`solutions` must be a list of {language, solution}, got nothing"),
    ],
)
def test_problem_that_cannot_be_used_is_told(row: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$") as caught:
        convert(row)
    assert not isinstance(caught.value, NotChosen)
