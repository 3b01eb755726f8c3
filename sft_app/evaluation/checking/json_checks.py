"""Judge whether an answer is JSON that fits a schema, which comes from a file and may therefore only run for 2 s."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import regex

SECONDS = 2.0
_UNSUPPORTED = ("patternProperties", "$recursiveRef", "$dynamicRef")
_TOO_LONG = "The check of the JSON schema took more than 2 s on this answer and was stopped. Simplify the schema."


def read_schema(value: Any) -> Any:
    """Read the argument: `true` or a JSON schema. Raises: ValueError if it is neither."""
    from jsonschema import Draft202012Validator, SchemaError

    if value is True:
        return value
    if not isinstance(value, dict):
        raise ValueError
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        raise ValueError(f"the JSON schema is not valid: {error.message[:200]}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    for name, argument in _keywords(value):
        if name in _UNSUPPORTED:
            raise ValueError(f"the JSON schema uses {name}, which cannot be checked here")
        if name == "$ref" and not str(argument).startswith("#"):
            raise ValueError(f"the JSON schema refers to {argument!r}; only references inside the file are allowed")
    return value


def is_json(schema: Any, text: str, finished: bool) -> str:
    """Parse the whole answer as JSON, and compare it with the schema if there is one."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return "The answer is not usable JSON: it is nested too deeply."
    except ValueError as error:
        fenced = " It is wrapped in a code block (```)." if text.lstrip().startswith("```") else ""
        return f"The answer is not valid JSON: {str(error).splitlines()[0] if text.strip() else 'it is empty'}.{fenced}"
    return "" if schema is True else _compare(value, schema)


def _compare(value: Any, schema: dict[str, Any]) -> str:
    from jsonschema import ValidationError
    from jsonschema.exceptions import best_match

    try:
        error: ValidationError | None = best_match(_validator(schema).iter_errors(value))
    except TimeoutError:
        return _TOO_LONG
    except Exception as problem:  # an unresolvable or endless reference, or a pattern that cannot be compiled
        reason = str(problem).splitlines()[0][:100] if str(problem) else type(problem).__name__
        return f"The answer could not be compared with the JSON schema: {reason}."
    if error is None:
        return ""
    place = f" at {error.json_path}" if error.path else ""
    return f"The answer is JSON that does not fit the schema{place}: {error.message[:200]}."


def _validator(schema: dict[str, Any]) -> Any:
    """Return a validator that fetches nothing, and raises a TimeoutError when its time is over."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend
    from referencing import Registry

    ends = time.monotonic() + SECONDS
    inherited: Callable[..., Iterator[ValidationError]] = Draft202012Validator.VALIDATORS["$ref"]

    def follow(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.monotonic() > ends:
            raise TimeoutError
        yield from inherited(validator, reference, instance, schema) or ()

    def search(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = max(ends - time.monotonic(), 0.001)
        if isinstance(instance, str) and not regex.search(pattern, instance, timeout=left):
            yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")

    kind = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"$ref": follow, "pattern": search}
    )
    return kind(schema, registry=Registry())


def _keywords(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and its value, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from _keywords(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keywords(inner)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")
