"""What is in the files of one's own that a run's settings name, so that a person sees it before the run starts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from sft_app.data.checkup.finding import count_of, rows_are
from sft_app.data.conversation import Conversation
from sft_app.data.reading import DataFile, Reading, first_example, no_conversation
from sft_app.data.rows import Rejected
from sft_app.data.sources.data_files import SUFFIXES, is_on_hub
from sft_app.errors import NAMES_SHOWN, DataError, NothingUsable, UnclearAssistantError
from sft_app.evaluation.forgetting.general_questions import QUESTION_ENDINGS, read_general_questions
from sft_app.evaluation.suites.kept import NO_TESTS
from sft_app.evaluation.suites.tests_file import TEST_ENDINGS, read_tests
from sft_app.runtime.home import uploads_dir
from sft_app.settings import RunSettings
from sft_app.training.run_data import open_heldout_file
from sft_app.ui.services.access import Access

FILE_SETTINGS: dict[str, Sequence[str]] = {
    "heldout_data": SUFFIXES,
    "validation_data": SUFFIXES,
    "tests": TEST_ENDINGS,
    "general_questions": QUESTION_ENDINGS,
}
"""The settings that name a file of one's own, and the endings that it can have."""
HELDOUT_FILES = ("heldout_data", "validation_data")
COUNTED = 5_000
SHOWN_CHARACTERS = 60
ON_HUB = "A dataset on the Hugging Face Hub. It is downloaded when the run starts."


def describe_named_file(name: str, settings: RunSettings, access: Access, home: Path) -> str:
    """Return what is in the file that the setting `name` names, read as a run reads it; "" if it names none.

    Raises: AppError if the visitor may not use the file, or a run could not.
    """
    value = getattr(settings, name)
    if not value or (name == "tests" and value == NO_TESTS):
        return ""
    access.check_settings(settings)
    if is_on_hub(value) and name in HELDOUT_FILES:
        return ON_HUB
    path = Path(value).expanduser()
    if path.is_relative_to(uploads_dir(home)) and not path.exists():
        raise DataError(f"{path.name} no longer exists. Upload it again.")
    try:
        return f"{path.name}: {_describe(name, value, settings, home)}"
    except DataError as error:
        said = str(error)
        raise DataError(said if path.name in said else f"{path.name}: {said}") from error


def _describe(name: str, value: str, settings: RunSettings, home: Path) -> str:
    if name == "tests":
        suite = read_tests(Path(value).expanduser())
        checks = sum(len(suite.checks_of(test)) for test in suite.tests)
        return f"{count_of(len(suite.tests), 'test')} with {count_of(checks, 'check')}."
    if name == "general_questions":
        questions = read_general_questions(Path(value).expanduser())
        checked = sum(bool(question.checks) for question in questions)
        return f"{count_of(len(questions), 'question')}, {checked or 'none'} with checks."
    return _describe_conversations(open_heldout_file(value, settings, home))


def _describe_conversations(file: DataFile) -> str:
    """Count the conversations up to `COUNTED`, and say what was skipped or guessed. Raises: DataError if none."""
    reading = Reading(file)
    count = sum(1 for _ in islice(reading, COUNTED + 1))
    if not count:
        raise _worded_for_the_page(file, no_conversation(file, reading.rejected, reading.repairable))
    counted = f"more than {COUNTED:,} conversations" if count > COUNTED else count_of(count, "conversation")
    guessed = _guessed(first_example(file)) if file.certainty == "guess" else []
    noted = [f"{rows_are(len(rows))} {note}." for note, rows in reading.noted.items()]
    return " ".join([f"{counted}{_skipped(reading.rejected)}.", *guessed, *file.notes, *noted])


def _skipped(rejected: Sequence[Rejected]) -> str:
    skipped = [row for row in rejected if not row.by_choice]
    if not skipped:
        return ""
    first = f"row {skipped[0].row:,}: {skipped[0].reason}"
    if len(skipped) == 1:
        return f"; 1 row is skipped ({first})"
    return f"; {len(skipped):,} rows are skipped (the first is {first})"


def _guessed(example: Conversation | None) -> list[str]:
    """Show how the first conversation is read."""
    if example is None or example.is_text():
        return ["The layout is a guess: the rows are read as plain text."]
    roles = [message.role for message in example.messages]
    asked = roles.index("user")
    question, answer = example.messages[asked], example.messages[roles.index("assistant", asked)]
    return [
        f"The layout is a guess: the first question is “{_short(question.content)}”, its answer "
        f"“{_short(answer.content)}”. If that is wrong, name the columns prompt and completion."
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} …"


def _worded_for_the_page(file: DataFile, error: DataError) -> DataError:
    """Say what to do on the page where the error names a command or an option."""
    if isinstance(error, UnclearAssistantError):
        names = ", ".join(f"“{name}”" for name in list(error.speakers)[:NAMES_SHOWN])
        return DataError(
            f"{file.path.name}: {error.question} Enter the name under “Chats and reasoning” on the Data tab: {names}."
        )
    if isinstance(error, NothingUsable):
        return DataError(
            f"{file.path.name} has no usable conversation. {error.reason} Correct the file and upload it again."
        )
    return error
