"""What a visitor may see, use and do: everything on your own computer; on a Space, their own runs and published models.

Every event and every API call is checked here, because a component that the page hides or disables can still be called.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradio.context import LocalContext

from sft_app.errors import AccessError, RunError
from sft_app.hosting import Hosting, Visitor
from sft_app.hub.ids import is_hub_id
from sft_app.hub.login import Token
from sft_app.runs.folder import Run
from sft_app.runtime.home import cleaned_dir, uploads_dir
from sft_app.settings import EXAMPLE_ADAPTER, EXAMPLE_DATA, DataSettings, RunSettings
from sft_app.ui.services.visitors import visitor_of

NO_FOLDERS = "folders and files on this machine cannot be used on a Space"
Permission = Literal[
    "look", "compare", "upload", "fetch", "clean", "train", "stop", "move", "delete", "measure", "merge", "push"
]
FOR_EVERYONE: frozenset[Permission] = frozenset({"look", "compare", "upload"})
FOR_TRUSTED: dict[Permission, str] = {
    "fetch": "fetch datasets",
    "clean": "make copies of data",
    "train": "train",
    "stop": "stop runs",
    "move": "move runs",
    "delete": "delete runs",
    "measure": "measure runs",
    "merge": "export merged models",
    "push": "push",
}
"""What only the owner of a Space and people they allow may do, worded for messages."""
RUN_ACTIONS: frozenset[Permission] = frozenset({"stop", "move", "delete", "measure"})
"""The permissions above that need a run."""


@dataclass(frozen=True)
class Access:
    """The access rules of one page."""

    hosting: Hosting
    home: Path

    def visitor(self) -> Visitor:
        """Return the visitor whose event runs in this thread; an anonymous visitor if there is none."""
        return visitor_of(self.hosting, LocalContext.request.get(None))

    def token(self) -> Token:
        """Return the token for the visitor's Hub requests: on a Space, the visitor's own or none."""
        return (self.visitor().token or False) if self.hosting.is_hosted else None

    def whose(self) -> str:
        """Return the visitor's name for cache keys, so that data loaded with one login is not shown to another."""
        return (self.visitor().name or "") if self.hosting.is_hosted else ""

    def is_trusted(self) -> bool:
        return self.hosting.trusts(self.visitor())

    def sees(self, run: Run) -> bool:
        """Return whether the visitor may see the run, which shows its data. On a Space, only the two owners may."""
        if not self.hosting.is_hosted:
            return True
        name = (self.visitor().name or "").lower()
        if not name:
            return False
        try:
            return name in ((self.hosting.owner or "").lower(), run.record().owner.lower())
        except RunError:  # its settings cannot be read, so no one owns it
            return False

    def check(self, permission: Permission) -> None:
        """Refuse a visitor who may not do this. Raises: AccessError."""
        if permission == "train":
            self.hosting.refuse_unless_trains(self.visitor())
        elif permission not in FOR_EVERYONE:
            self.hosting.refuse_unless_trusted(self.visitor(), FOR_TRUSTED[permission])

    def check_data(self, settings: DataSettings) -> None:
        """Raises: AccessError if the data is a file that was not uploaded, or would be fetched without permission."""
        if not self.hosting.is_hosted or settings.data == EXAMPLE_DATA:
            return
        path = Path(settings.data).expanduser()
        is_own = any(path.resolve().is_relative_to(folder(self.home)) for folder in (uploads_dir, cleaned_dir))
        if is_own and not path.is_dir():
            return
        if path.exists() or not is_hub_id(settings.data):
            raise AccessError(f"Data {settings.data[:80]!r}: {NO_FOLDERS}. Upload the file.")
        self.check("fetch")

    def check_model(self, name: str) -> None:
        """Raises: AccessError if the name is a folder on this machine."""
        if self.hosting.is_hosted and name != "starter" and (not is_hub_id(name) or Path(name).expanduser().exists()):
            raise AccessError(f"Model {name[:80]!r}: {NO_FOLDERS}. Use a Hub id, or `starter`.")

    def check_tests(self, tests: str) -> None:
        """Raises: AccessError if the setting names a file that was not uploaded."""
        self._check_uploaded("Tests", "" if tests == "none" else tests)

    def _check_uploaded(self, what: str, path: str) -> None:
        uploads = uploads_dir(self.home).resolve()
        if self.hosting.is_hosted and path and not Path(path).expanduser().resolve().is_relative_to(uploads):
            raise AccessError(f"{what} {path[:80]!r}: {NO_FOLDERS}. Upload the file.")

    def check_settings(self, settings: RunSettings) -> None:
        """Check the data, the model, the general questions and the tests. Raises: AccessError."""
        for source in filter(None, (settings.data, settings.heldout_data, settings.validation_data)):
            self.check_data(settings.model_copy(update={"data": source}))
        self._check_uploaded("General questions", settings.general_questions)
        self.check_model(settings.model)
        self.check_tests(settings.tests)

    def check_side(self, name: str) -> None:
        """Raises: AccessError if the name is a folder on this machine, or not the adapter that this Space compares."""
        if not self.hosting.is_hosted or name == "base":
            return
        if self.hosting.adapter and name != self.hosting.adapter:
            raise AccessError(f"This Space compares {self.hosting.adapter} with its base model, and nothing else.")
        run_id, _, step = name.partition("/checkpoint-")
        is_ours = name == EXAMPLE_ADAPTER or ("/" not in run_id and (not step or step.isdecimal()))
        if not is_ours and (not is_hub_id(name) or Path(name).expanduser().exists()):
            raise AccessError(f"{name[:80]!r}: {NO_FOLDERS}. Use the name of an adapter on the Hub.")

    def check_recorded(self, file: str) -> None:
        """Raises: AccessError if the file of recorded answers was not uploaded, or this Space compares one adapter."""
        if self.hosting.adapter:
            self.check_side(file)
        self._check_uploaded("Recorded answers", file)

    def check_questions(self, prompts: list[str], system_prompt: str, max_new_tokens: int) -> None:
        """Raises: AccessError if a visitor exceeds the limits of this Space."""
        limits = self.hosting.limits
        if self.is_trusted():
            return
        longest = max(map(len, [*prompts, system_prompt]))
        if longest > limits.prompt_characters:
            raise AccessError(
                f"The prompt has {longest:,} characters, but the limit here is "
                f"{limits.prompt_characters:,}. Shorten it."
            )
        if max_new_tokens > limits.max_new_tokens:
            raise AccessError(f"max_new_tokens can be at most {limits.max_new_tokens} here, got {max_new_tokens}.")
        if len(prompts) > limits.prompts:
            raise AccessError(f"At most {limits.prompts} prompts can be answered at once here, got {len(prompts):,}.")

    def within_time(self, updates: Generator[Any]) -> Iterator[Any]:
        """Stop a visitor's answers after the time limit. Raises: AccessError then. Shown answers stay."""
        limit, started = self.hosting.limits.answer_seconds, time.monotonic()
        is_trusted = self.is_trusted()
        with closing(updates):
            for update in updates:
                yield update
                if not is_trusted and time.monotonic() - started > limit:
                    raise AccessError(f"Answers are limited to {limit:.0f} seconds here. Ask for fewer tokens.")
