"""Read YAML without its surprises: `no` is a text, `1.50` keeps its zero, a key occurs once, and nothing is run."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sft_app.errors import DataError

_STR = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the types of JSON only, and without references from one place to another."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not supported; repeat the text", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if names[place] in names[:place]:
                message = f"{str(key.value)!r} occurs twice in the same place"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
        return super().construct_mapping(node, deep)


def exact_number(text: str) -> float | str:
    """Return a decimal number, or the text itself if the number would be written in another way, such as 1.50."""
    number = float(text)
    return number if repr(number) == text else text


for _tag, _pattern, _first in (
    ("bool", "true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]{0,15})", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: exact_number(node.value))


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
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is nested too deeply, or contains characters that YAML cannot hold"
    quoted = " Put texts with signs such as ? : { [ # in quotes" if isinstance(error, yaml.MarkedYAMLError) else ""
    return f"line {mark.line + 1}: {problem}.{quoted}" if mark else problem
