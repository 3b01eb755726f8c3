"""Reads a Modelfile and renders its template as Ollama does: in Python for the part of Go's text/template that is used,
and with Go itself where that is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

GO = shutil.which("go")
ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
ENDING = re.compile(r"if |range ")
STRING = re.compile(r'"((?:\\.|[^"\\])*)"')


def parse_modelfile(text: str) -> list[tuple[str, str]]:
    """(instruction, value) pairs; of a value in triple quotes all that is between them, and only what is printable.

    Source: Ollama, `parser/parser.go`: a value ends with the first line whose end closes its quotes.
    """
    found, lines = [], iter(text.split("\n"))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, _, value = line.partition(" ")
        while (inner := _unquoted(value)) is None:
            value += "\n" + next(lines)
        if name == "PARAMETER":
            name, _, value = value.partition(" ")
            while (inner := _unquoted(value)) is None:
                value += "\n" + next(lines)
        found.append((name, "".join(letter for letter in inner if letter.isprintable() or letter in "\n\t")))
    return found


def _unquoted(value: str) -> str | None:
    stripped = value.strip()
    if stripped.startswith('"""'):
        return stripped[3:-3] if len(stripped) >= 6 and stripped.endswith('"""') else None
    if stripped.startswith('"'):
        return stripped[1:-1] if len(stripped) >= 2 and stripped.endswith('"') else None
    return stripped


def render(template: str, messages: list[dict[str, Any]]) -> str:
    """As Go would; `.System` are the system messages."""
    tokens = ACTION.split(template)  # text, action, text, …
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    text, rest = _block(tokens, 0, {"System": system, "Messages": messages}, {}, True)
    assert rest == len(tokens)
    return text


def _block(tokens: list[str], at: int, dot: Any, known: dict[str, Any], runs: bool) -> tuple[str, int]:
    """Until the `else` or `end` that closes it, whose place is given back."""
    text = ""
    while at < len(tokens):
        if at % 2 == 0:
            text += tokens[at] if runs else ""
        elif tokens[at] == "end" or tokens[at].startswith("else"):
            return text, at
        elif tokens[at].startswith("if "):
            part, at = _branches(tokens, at, dot, known, runs)
            text += part
        elif tokens[at].startswith("range "):
            part, at = _loop(tokens, at, dot, known, runs)
            text += part
        elif found := re.fullmatch(r"(\$\w+) :?= (\w+)", tokens[at]):
            if runs:
                known[found[1]] = found[2] == "true"
        elif runs:
            text += str(_value(tokens[at], dot, known))
        at += 1
    return text, at


def _branches(tokens: list[str], at: int, dot: Any, known: dict[str, Any], runs: bool) -> tuple[str, int]:
    text, is_open, condition = "", runs, tokens[at].removeprefix("if ")
    while True:
        chosen = is_open and bool(_value(condition, dot, known))
        part, at = _block(tokens, at + 1, dot, known, chosen)
        text, is_open = text + part, is_open and not chosen
        if tokens[at] == "end":
            return text, at
        condition = tokens[at].removeprefix("else").removeprefix(" if ") or "true"


def _loop(tokens: list[str], at: int, dot: Any, known: dict[str, Any], runs: bool) -> tuple[str, int]:
    assert tokens[at] == "range $index, $message := .Messages"
    text = ""
    for place, message in enumerate(dot["Messages"]):
        known["$index"], known["$"] = place, dot
        part, _ = _block(tokens, at + 1, {"Role": message["role"], "Content": message["content"]}, known, runs)
        text += part
    _, end = _block(tokens, at + 1, dot, known, False)
    return text, end


def _value(code: str, dot: Any, known: dict[str, Any]) -> Any:
    if found := STRING.fullmatch(code):
        return re.sub(r"\\(U[0-9a-f]{8}|.)", lambda it: _letter(it[1]), found[1])
    if found := re.fullmatch(r'eq \.Role "(\w+)"', code):
        return dot["Role"] == found[1]
    if found := re.fullmatch(r"not \((.*)\)", code):
        return not _value(found[1], dot, known)
    if code == "eq (len (slice $.Messages $index)) 1":
        return len(known["$"]["Messages"][known["$index"] :]) == 1
    return {"true": True, **known, **{f".{name}": value for name, value in dot.items()}}[code]


def _letter(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else escape


GO_PROGRAM = """
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }
type Case struct {
	Template string
	Messages []*Message
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	texts := []string{}
	for _, c := range cases {
		var system []string
		for _, m := range c.Messages {
			if m.Role == "system" {
				system = append(system, m.Content)
			}
		}
		t := template.Must(template.New("").Option("missingkey=zero").Parse(c.Template))
		var b strings.Builder
		data := map[string]any{"System": strings.Join(system, "\\n\\n"), "Messages": c.Messages, "Response": ""}
		if err := t.Execute(&b, data); err != nil {
			panic(err)
		}
		texts = append(texts, b.String())
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}
"""


def render_with_go(cases: list[tuple[str, list[dict[str, Any]]]], folder: Path) -> list[str]:
    """Many at once, since the program is compiled first."""
    (folder / "main.go").write_text(GO_PROGRAM)
    asked = [{"Template": template, "Messages": messages} for template, messages in cases]
    done = subprocess.run(
        [str(GO), "run", str(folder / "main.go")], input=json.dumps(asked), capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
