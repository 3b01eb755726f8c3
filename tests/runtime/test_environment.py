"""Each variable of the app has one name in the code and, if people set it, a place in the README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sft_app.runtime import environment
from sft_app.runtime.environment import PROJECT_DIR

HERE = "sft_app/runtime/environment.py"
OURS = {text for name, text in vars(environment).items() if name.endswith("_VARIABLE") and text.startswith("SFT_APP_")}
FOR_CHILDREN = {environment.RUN_LOCK_VARIABLE, environment.LAUNCHER_PID_VARIABLE}


def literals(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_a_variable_is_named_in_one_place() -> None:
    files = [file for file in (PROJECT_DIR / "sft_app").rglob("*.py") if file != PROJECT_DIR / HERE]
    named = {file.name: {text for text in literals(file) if re.fullmatch("SFT_APP_[A-Z_]+", text)} for file in files}
    assert {name: texts for name, texts in named.items() if texts} == {}


def test_the_readme_describes_the_variables_that_people_set() -> None:
    told = set(re.findall("SFT_APP_[A-Z_]+", (PROJECT_DIR / "README.md").read_text(encoding="utf-8")))
    assert told == OURS - FOR_CHILDREN
    assert environment.LLAMA_CPP_VARIABLE in (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
