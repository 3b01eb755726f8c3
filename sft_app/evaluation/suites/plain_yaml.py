"""Read YAML without its surprises: `no` is a text, `1.50` keeps its zero, a key occurs once, and nothing is run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from sft_app.errors import DataError
from sft_app.evaluation.checking.written_numbers import WrittenNumber, exact_number

_TAGS = "tag:yaml.org,2002:"
_STR = f"{_TAGS}str"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the types of JSON only, and without references from one place to another."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not supported; repeat the text", mark)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) not in (None, "!"):
            message = f"types such as {event.tag.replace(_TAGS, '!!')} are not supported; leave it out"
            raise yaml.composer.ComposerError(None, None, message, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if names[place] in names[:place]:
                message = f"{str(key.value)!r} occurs twice in the same place"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which writes the text of a number as a text."""


for _tag, _pattern, _first in (
    ("bool", "true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]{0,15})", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]{1,300})?(?:[eE][-+]?[0-9]{1,3})?", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: exact_number(node.value))
_Dumper.add_representer(WrittenNumber, lambda dumper, text: dumper.represent_str(str(text)))
_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(_STR, text, _style(text)))


def _style(text: str) -> str | None:
    """Return the style in which a text is read as it was: unquoted, some separators of lines would be spaces."""
    return '"' if any(separator in text for separator in "\x85\u2028\u2029") else None


def load_yaml(text: str, name: str) -> tuple[Any, dict[int, int]]:
    """Return the value, and the line of each entry of its list, or of the list under `tests`, by its number from 1.

    Raises:
        DataError: the text is not YAML, refers to itself, or has a key twice.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        value = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{name} cannot be read as YAML: {_problem(error)}.") from error
    finally:
        loader.dispose()
    entries = node
    if isinstance(node, yaml.MappingNode):
        entries = next((inner for key, inner in node.value if key.value == "tests"), None)
    nodes = entries.value if isinstance(entries, yaml.SequenceNode) else []
    return value, {number: entry.start_mark.line + 1 for number, entry in enumerate(nodes, 1)}


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def refuse_unknown(values: dict[str, Any], known: Sequence[str], what: str) -> None:
    """Refuse keys that would be ignored. Raises: DataError, which begins with `what`."""
    for key in values:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The keys are: {', '.join(known)}."
            raise DataError(f"{what} has the unknown key {str(key)[:60]!r}. {hint}")


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is nested too deeply, or contains characters that YAML cannot hold"
    quoted = " Put texts with signs such as ? : { [ # in quotes" if isinstance(error, yaml.MarkedYAMLError) else ""
    return f"line {mark.line + 1}: {problem}.{quoted}" if mark else problem
