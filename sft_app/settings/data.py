"""Define how data is read: the settings that a check-up and a run share."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal[
    "auto",
    "messages",
    "sharegpt",
    "prompt_completion",
    "alpaca",
    "dolly",
    "gpteacher",
    "gpt4all",
    "question_answer",
    "preference",
    "candidates",
    "turns",
    "message_rows",
    "exports",
    "openai_batch",
    "intents",
    "oasst",
    "code_contests",
    "text",
    "columns",
]
CodeLanguage = Literal["python3", "python2", "cpp", "java", "any"]
Section = Literal["data", "model", "method", "training", "generation"]

COLUMN_ROLES = ("user", "assistant", "system", "context")
EXAMPLE_DATA = "examples/customer_service.jsonl"

_HUB_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/([\w.-]+/[\w.-]+?)"
    r"(?:/tree/main|/viewer|/blob/main/README\.md|/discussions)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_HUB_PATH = re.compile(r"(?:hf://)?datasets/([\w.-]+/[\w-][\w.-]*?)/?")
_FILE_ENDING = re.compile(
    r"\.(?:jsonl|ndjson|json|csv|tsv|txt|parquet|xlsx?|ods|zip|gz|bz2|xz|zst|md|pdf|docx?)$", re.I
)


def clean_source(text: str) -> str:
    """Return the file or id that a pasted text names: without quotes, and the id for an address of the Hub."""
    text = text.strip()
    while len(text) > 2 and text[0] + text[-1] in ('""', "''", "``", "“”", "‘’", "„“"):
        text = text[1:-1].strip()
    found = _HUB_ADDRESS.fullmatch(text) or _HUB_PATH.fullmatch(text)
    return found[1] if found and not _FILE_ENDING.search(found[1]) else text


def setting(section: Section, default: Any, help: str, **limits: Any) -> Any:
    """Define a setting; `limits` are pydantic's `ge`, `gt`, `le`, `lt`, `min_length` and `max_length`."""
    return Field(default, description=help, json_schema_extra={"section": section}, **limits)


class DataSettings(BaseModel):
    """How rows are read and become conversations; the same settings always read the same file in the same way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = setting("data", EXAMPLE_DATA, "A file with examples, or the id of a dataset on the Hub.", min_length=1)
    format: Format = setting("data", "auto", "Layout of the rows; auto detects it.")
    columns: tuple[str, ...] = setting(
        "data",
        (),
        "For a table of your own: user=COLUMN, assistant=COLUMN, optionally system= and context=.",
        max_length=4,
    )
    max_rows: int | None = setting("data", None, "Read at most this many rows. Leave empty for all.", ge=1)
    dataset_config: str | None = setting("data", None, "Config (subset) of a Hub dataset. Leave empty for its default.")
    dataset_split: str = setting("data", "train", "Split of a Hub dataset.", min_length=1)
    dataset_revision: str | None = setting(
        "data", None, "Branch, tag or commit of a Hub dataset. Leave empty for main."
    )
    sheet: str | None = setting("data", None, "Sheet of an Excel or OpenDocument file. Leave empty for the first.")
    assistant: str = setting(
        "data",
        "",
        "Who the assistant is, if the messages name people: the name as in the file. Leave empty to detect it.",
    )
    reasoning: Literal["keep", "leave_out"] = setting(
        "data", "keep", "Reasoning that comes with answers: keep it before them in <think> tags, or leave it out."
    )
    reply_paths: Literal["best", "all"] = setting(
        "data", "best", "For reply trees (OASST): the best-ranked reply at every level, or every path."
    )
    text_language: str = setting(
        "data", "", "For reply trees (OASST): only this language, e.g. en. Leave empty for all."
    )
    code_language: CodeLanguage = setting("data", "python3", "For contest problems: solutions in this language.")
    solutions_per_problem: int = setting(
        "data", 1, "For contest problems: at most this many solutions each.", ge=1, le=1000
    )

    def reading(self) -> DataSettings:
        """Return only these settings, also from those of a whole run."""
        return DataSettings(**{name: getattr(self, name) for name in DataSettings.model_fields})

    def column_map(self) -> dict[str, str]:
        """Return `{"user": COLUMN, "assistant": COLUMN, …}`; empty if no columns are named."""
        return {role: column for role, _, column in (entry.partition("=") for entry in self.columns)}

    @field_validator("data")
    @classmethod
    def _without_quotes(cls, value: str) -> str:
        return clean_source(value)

    @field_validator("columns", mode="before")
    @classmethod
    def _one_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        roles = [entry.partition("=")[0] for entry in entries]
        for entry, role in zip(entries, roles, strict=True):
            if role not in COLUMN_ROLES or not entry.partition("=")[2]:
                raise ValueError(f"{entry!r} is not ROLE=COLUMN, where ROLE is one of {', '.join(COLUMN_ROLES)}")
        if len(set(roles)) < len(roles):
            raise ValueError("a role is given twice")
        if entries and not {"user", "assistant"} <= set(roles):
            raise ValueError("both user=COLUMN and assistant=COLUMN are required")
        return entries
