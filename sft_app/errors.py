"""The project's errors. Each one's text is a sentence for the reader: what was got, what was expected, what to do."""


def first_line(error: Exception) -> str:
    """The first line of its text, which may be empty, or else its kind: for a message that has room for one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def kind_and_first_line(error: Exception) -> str:
    """`ValueError: its first line`, or the kind alone: for an error that nobody foresaw."""
    kind = type(error).__name__
    return f"{kind}: {first_line(error)}" if str(error).strip() else kind


class AppError(Exception):
    """Shown to the person as it is, in one line, without a traceback. `hint` is what to do, where it stands apart."""

    hint: str = ""


class SettingsError(AppError):
    """The settings of a run contradict each other or are out of range."""


class DataError(AppError):
    """A data file or a row of it cannot be used."""


class NotChosen(DataError):
    """A row that could be used, which the settings leave out."""


class ModelError(AppError):
    """A model cannot be found, read or loaded."""


class RunError(AppError):
    """A run does not exist, or is not in a state that allows what was asked."""


class DivergedError(AppError):
    """A loss, a gradient or a weight is not a finite number, so that training cannot go on."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class AccessError(AppError):
    """This visitor may not do what was asked, here."""


class ExportError(AppError):
    """Something cannot be written, sent or made fit for another program."""


class StorageError(AppError):
    """The place where copies of runs are kept cannot be reached or used."""
