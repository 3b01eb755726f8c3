"""Judge whether an answer is JSON that fits a schema, which comes from a file and may therefore only run for 2 s."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from sft_app.evaluation.checking.json_schemas import draft_of, format_checker
from sft_app.evaluation.checking.patterns import is_found

SECONDS = 2.0
_TOO_LONG = "The check of the JSON schema took more than 2 s on this answer and was stopped. Simplify the schema."


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
    from jsonschema import ValidationError
    from jsonschema.validators import extend
    from referencing import Registry

    draft, ends = draft_of(schema), time.monotonic() + SECONDS
    inherited: Callable[..., Iterator[ValidationError]] = draft.VALIDATORS["$ref"]

    def follow(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.monotonic() > ends:
            raise TimeoutError
        yield from inherited(validator, reference, instance, schema) or ()

    def search(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = max(ends - time.monotonic(), 0.001)
        if isinstance(instance, str) and not is_found(pattern, instance, left):
            yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")

    kind = extend(  # type: ignore[no-untyped-call]
        draft, {"$ref": follow, "pattern": search}
    )
    return kind(schema, registry=Registry(), format_checker=format_checker())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")
