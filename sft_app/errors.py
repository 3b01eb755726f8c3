"""The project's errors. The text of each is a sentence for the user: what happened, what was expected, what to do."""

from collections.abc import Sequence


def first_line(error: Exception) -> str:
    """Return the first line of the error's text, or its type if the text is empty, for a message on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def kind_and_first_line(error: Exception) -> str:
    """Return `ValueError: first line`, or only the type, for an unexpected error."""
    kind = type(error).__name__
    return f"{kind}: {first_line(error)}" if str(error).strip() else kind


class AppError(Exception):
    """The base class. The user sees its text on one line, without a traceback; `hint` says what to do, if separate."""

    hint: str = ""


class SettingsError(AppError):
    """The settings of a run contradict each other or are out of range."""


class DataError(AppError):
    """A data file, or one of its rows, cannot be used."""


NAMES_SHOWN = 5


class UnclearAssistantError(DataError):
    """It is unclear which of the speakers is the assistant.

    `speakers` maps each name to one of their messages, the most likely first; `question` does not say how to answer.
    """

    def __init__(self, problem: str, speakers: dict[str, str]) -> None:
        names = list(speakers)
        shown = ", ".join(f"“{name}”" for name in names[:NAMES_SHOWN])
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        super().__init__(
            f"{problem} The speakers are {shown}{more}. Which of them is the assistant? Answer with the setting "
            f'assistant, for example --assistant "{names[0]}".'
        )
        self.question = f"{problem} Which of them is the assistant?"
        self.speakers = speakers


class NothingUsable(DataError):
    """A file has no usable conversation; `reason` says why the first row has none.

    `repairable` are the rows that the fix of empty and out-of-order turns would make usable.
    """

    def __init__(self, message: str, reason: str, repairable: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.reason, self.repairable = reason, list(repairable)


class NoChatTemplate(DataError):
    """The model has no chat template, so it cannot read a conversation."""


class NotChosen(DataError):
    """A usable row is excluded by the settings."""


class ModelError(AppError):
    """A model cannot be found, read or loaded."""


class RunError(AppError):
    """A run does not exist, or its state does not allow the request."""


class DivergedError(AppError):
    """A loss, gradient or weight is not finite, so training cannot continue."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class AccessError(AppError):
    """This visitor is not allowed to do this here."""


class ExportError(AppError):
    """Something cannot be written, pushed or converted for another program."""


class JudgeError(AppError):
    """A model that is asked to judge cannot be reached or used."""


class StorageError(AppError):
    """The storage for copies of runs cannot be reached or used."""
