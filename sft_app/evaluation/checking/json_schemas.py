"""Read a JSON schema from a file: refuse what would be ignored, fetched, or could not be checked here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from sft_app.evaluation.checking.patterns import check_pattern

_UNSUPPORTED = ("patternProperties", "$recursiveRef", "$dynamicRef")
_FORMATS = ("date", "email", "idn-email", "ipv4", "ipv6", "regex", "uuid")
_ANNOTATIONS = {"$schema", "$id", "id", "$comment", "title", "description", "default", "examples", "example"} | {
    *("$defs", "definitions", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType")
}
_CONDITIONS = ("if", "then", "else", "not")
_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains")
_PROPERTIES = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_LISTS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_MAPS = ("$defs", "definitions", "dependencies", "dependentSchemas", "properties")
_TIME = r"\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:[0-5]\d)"
_DATE_TIME = re.compile(rf"\d{{4}}-\d\d-\d\d[Tt ]{_TIME}")
_LEAP_SECOND = re.compile(r"(?<=:\d\d):60")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")


def read_schema(value: Any) -> Any:
    """Read the argument: `true` or a JSON schema. Raises: ValueError if it is neither, or cannot be checked."""
    from jsonschema import FormatChecker, SchemaError

    if value is True:
        return value
    if not isinstance(value, dict):
        raise ValueError
    draft = draft_of(value)
    try:
        draft.check_schema(value, format_checker=FormatChecker(()))
        places = dict(_subschemas("#", value))
    except SchemaError as error:
        raise ValueError(f"the JSON schema is not valid: {error.message[:200]}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    targets = places.keys() | {f"#{schema['$anchor']}" for schema in places.values() if "$anchor" in schema}
    for place, schema in places.items():
        _check_keywords(schema, draft.VALIDATORS, is_root=place == "#")
        _check_reference(schema, draft.VALIDATORS, targets)
    return value


def draft_of(schema: dict[str, Any]) -> Any:
    """Return the validator of the draft that `$schema` names. Raises: ValueError if it is unknown."""
    from jsonschema import Draft3Validator, Draft202012Validator
    from jsonschema.validators import validator_for

    if "$schema" not in schema:
        return Draft202012Validator
    named = schema["$schema"]
    draft = validator_for(schema, default=Draft3Validator) if isinstance(named, str) else Draft3Validator
    if draft is Draft3Validator:  # also what an unknown one becomes
        raise ValueError(
            f"the JSON schema's $schema {str(named)[:80]!r} is unknown; drafts 4 to 2020-12 can be checked"
        )
    return draft


@lru_cache
def format_checker() -> Any:
    """Return what judges `format`: only formats that can be checked here."""
    from jsonschema import FormatChecker

    checker = FormatChecker(_FORMATS)
    for name, judge in (("date-time", _is_date_time), ("time", _is_time), ("uri", _is_uri)):
        checker.checks(name, raises=ValueError)(judge)
    return checker


def _subschemas(place: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema with its place, such as `#/properties/name`; `true` and `false` as empty ones."""
    if not isinstance(schema, dict):
        if isinstance(schema, bool):
            yield place, {}
        return
    yield place, schema
    for name in schema.keys() & {*_CONDITIONS, *_ITEMS, *_PROPERTIES, *_LISTS, *_MAPS}:
        inner = schema[name]
        if name in _MAPS and isinstance(inner, dict):
            parts: list[tuple[str, Any]] = [(f"/{_escaped(str(key))}", value) for key, value in inner.items()]
        elif name in _LISTS and isinstance(inner, list):
            parts = [(f"/{number}", value) for number, value in enumerate(inner)]
        else:
            parts = [("", inner)]
        for part, value in parts:
            yield from _subschemas(f"{place}/{name}{part}", value)


def _check_keywords(schema: dict[str, Any], validators: Any, is_root: bool) -> None:
    known = _ANNOTATIONS | validators.keys()
    known |= {"then", "else"} if "if" in validators else set()
    known |= {"minContains", "maxContains", "$anchor"} if "dependentRequired" in validators else set()
    for name, argument in schema.items():
        if name in _UNSUPPORTED or (name in ("$id", "id") and not is_root):
            raise ValueError(f"the JSON schema uses {name}, which cannot be checked here")
        if name not in known and not str(name).startswith("x-"):
            close = get_close_matches(str(name), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else "it would be ignored"
            raise ValueError(f"the JSON schema has the unknown keyword {str(name)[:60]!r}; {hint}")
        if name == "format" and argument not in format_checker().checkers:
            formats = ", ".join(format_checker().checkers)
            raise ValueError(f"the JSON schema uses the format {argument!r}; those that can be checked are {formats}")
        if name == "pattern":
            try:
                check_pattern(argument)
            except ValueError as error:
                raise ValueError(f"the pattern {argument[:60]!r} cannot be used: {error}") from error


def _check_reference(schema: dict[str, Any], validators: Any, targets: set[str]) -> None:
    """Refuse references to other files and to nothing, and what older drafts ignore next to a reference."""
    if "$ref" not in schema:
        return
    reference = schema["$ref"]
    if not str(reference).startswith("#"):
        raise ValueError(f"the JSON schema refers to {reference!r}; only references inside the file are allowed")
    if unquote(reference).rstrip("/") not in targets:
        raise ValueError(f"the JSON schema refers to {reference!r}, and there is no schema in that place")
    ignored = [] if "dependentRequired" in validators else sorted(schema.keys() & validators.keys() - {"$ref"})
    if ignored:
        raise ValueError(f"the JSON schema has {ignored[0]} next to $ref, where this draft ignores it; use allOf")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _is_date_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    if not _DATE_TIME.fullmatch(value):
        return False
    whole = re.sub(r"\.\d+", "", value.upper()).replace("Z", "+00:00")
    return bool(datetime.fromisoformat(_LEAP_SECOND.sub(":59", whole)))


def _is_time(value: Any) -> bool:
    return not isinstance(value, str) or _is_date_time(f"2000-01-01T{value}")


def _is_uri(value: Any) -> bool:
    return not isinstance(value, str) or _URI.fullmatch(value) is not None
