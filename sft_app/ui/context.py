"""What the page keeps in memory between clicks: a tokenizer, a base model with adapters. All else is on disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.checkup.inspection import Inspection, inspect_data
from sft_app.data.checkup.lengths import QUICKLY_MEASURED, TokenLengths, measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.reading import PREVIEWED, Example, LoadedData, load_data, open_data
from sft_app.data.sources.data_files import locate_data
from sft_app.data.sources.rows import Progress
from sft_app.errors import DataError, ModelError, RunError
from sft_app.hosting import Hosting
from sft_app.runs.directory import check_settled, choose_run, list_runs, queued_runs
from sft_app.runs.folder import Run
from sft_app.runs.summary import RunSummary
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui.run_files import RunFiles
from sft_app.ui.serving.access import Access

if TYPE_CHECKING:
    from sft_app.inference.loaded_models import LoadedModels
    from sft_app.inference.pair import LoadedPair
    from sft_app.inference.sides import Side
    from sft_app.training.preflight.fitting import Suggestion
    from sft_app.training.preflight.plan import Machine, Preflight
    from sft_app.training.preflight.workload import Measured


class Superseded(Exception):
    """Another check-up has been asked for meanwhile."""


@dataclass
class PageContext:
    """Made once by `build_page` and handed to the tabs."""

    home: Path
    hosting: Hosting = field(default_factory=Hosting)
    access: Access = field(init=False)
    run_files: RunFiles = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _models_lock: threading.Lock = field(default_factory=threading.Lock)
    _data_lock: threading.Lock = field(default_factory=threading.Lock)
    _inspection_lock: threading.Lock = field(default_factory=threading.Lock)
    _tokenizers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _data: tuple[Any, LoadedData] | None = None
    _inspection: tuple[Any, Inspection] | None = None
    _lengths_lock: threading.Lock = field(default_factory=threading.Lock)
    _lengths: tuple[Any, TokenLengths] | None = None
    _looks_at: Machine | None = None
    _measured: dict[RunSettings, Measured] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    _asked_lock: threading.Lock = field(default_factory=threading.Lock)
    _models: LoadedModels | None = None

    def __post_init__(self) -> None:
        self.access = Access(self.hosting, self.home)
        self.run_files = RunFiles(self.home)

    def data(self, settings: DataSettings) -> LoadedData:
        """The first conversations, read again only when the file or the settings have changed. Raises: DataError."""
        self.access.check_data(settings)
        key = (settings, _stamp(settings), self.access.whose())
        with self._data_lock:  # several events of one change ask at the same time
            if self._data is None or self._data[0] != key:
                self._data = (key, load_data(open_data(settings, self.home), PREVIEWED))
            return self._data[1]

    def fetch(self, settings: DataSettings, on_progress: Progress) -> None:
        """Fetches a data set from the Hub, anew where it has changed there. Raises: DataError."""
        self.access.refuse_unless_trusted("fetch data sets")
        open_data(settings, self.home, on_progress)
        with self._data_lock:
            self._data = None

    def inspection_key(self, settings: DataSettings) -> int:
        """The same for the same data and settings."""
        return hash((settings, _stamp(settings), self.access.whose()))

    def inspect(self, session: str, settings: RunSettings, on_progress: Progress) -> Inspection:
        """The check-up of the data with the model's tokenizer, for one browser page (`session`).

        Raises:
            Superseded: the same page asks for another meanwhile, or has asked for this one already.
            AppError: the data cannot be used; a model that cannot be loaded only leaves the lengths out.
        """
        self.access.check_data(settings)
        key = self.inspection_key(settings)
        with self._asked_lock:
            if self._asked.get(session) == key:
                raise Superseded  # the one at work will show it
            self._asked[session] = key

        def tell(share: float) -> None:
            if self._asked.get(session) != key:
                raise Superseded
            on_progress(share)

        try:
            with self._inspection_lock:
                tell(0.0)
                if self._inspection is None or self._inspection[0] != key:
                    self._inspection = (key, self._inspect(settings, tell))
                return self._inspection[1]
        finally:
            if self._asked.get(session) == key:
                del self._asked[session]

    def end_inspection(self, session: str, settings: RunSettings | None) -> None:
        """Ends the check-up at work for this page if it is of anything else than these settings."""
        key = None if settings is None else self.inspection_key(settings)
        with self._asked_lock:  # between a look and what comes of it another may be asked for
            if self._asked.get(session) != key:
                self._asked.pop(session, None)

    def _inspect(self, settings: RunSettings, on_progress: Progress) -> Inspection:
        file = self.data(settings.reading()).file  # first, as what is wrong with it is told in no time
        try:
            tokenizer = self.tokenizer(settings.model)
        except ModelError:
            tokenizer = None
        inspection = inspect_data(file, settings, tokenizer, on_progress)
        if inspection.lengths is not None:
            self._lengths = (self._lengths_key(settings), inspection.lengths)
        return inspection

    def lengths(self, settings: RunSettings) -> TokenLengths:
        """Of the whole data once it has been checked, before that of a sample of what can be turned to.

        Its `max_length` may be that of other settings. Raises: AppError when there are no tokens to count.
        """
        self.access.check_data(settings)
        key, tokenizer = self._lengths_key(settings), self.tokenizer(settings.model)
        with self._lengths_lock:  # several events of one change ask at the same time
            if self._lengths is None or self._lengths[0] != key:
                loaded, sample = self.data(settings.reading()), Sample[Example](QUICKLY_MEASURED)
                for example in loaded.examples:
                    sample.offer(example)
                self._lengths = (key, measure_lengths(tokenizer, sample.items, None, sample.offered))
            return self._lengths[1]

    def _lengths_key(self, settings: RunSettings) -> Any:
        return settings.reading(), settings.model, _stamp(settings), self.access.whose()

    def max_length(self, settings: RunSettings) -> int:
        """What the settings ask for, or what the data suggests. Raises: AppError as `lengths`."""
        return settings.max_length or self.lengths(settings).suggested_max_length

    def preflight(self, settings: RunSettings) -> tuple[Preflight, Suggestion | None]:
        """What a run will take, and what would make it fit; measured if it has been. Raises: AppError."""
        from sft_app.training.preflight.fitting import suggest_fit

        lengths, size = self.lengths(settings), self.data(settings.reading()).file.path.stat().st_size
        found = self._machine().preflight(settings, lengths, size, self._measured.get(_nameless(settings)))
        return found, suggest_fit(settings, found, lambda changed: self._machine().preflight(changed, lengths, size))

    def measure(self, settings: RunSettings, on_progress: Progress) -> None:
        """A dry run; `preflight` tells what it found from then on. Raises: AppError."""
        from sft_app.training.preflight.measuring import measure_run

        self.access.refuse_unless_trains()
        examples = self.data(settings.reading()).examples
        found = measure_run(settings, examples, self.lengths(settings), self.home, on_progress)
        self._measured[_nameless(settings)] = found

    def is_measured(self, settings: RunSettings) -> bool:
        return _nameless(settings) in self._measured

    def submit(self, settings: RunSettings) -> Run:
        """A run of the one who asks. Raises: AppError."""
        from sft_app.models.catalog import fetch_if_restricted, resolve_model
        from sft_app.training.launch import submit_run

        self.access.refuse_unless_trains()
        self.access.check_settings(settings)
        if self.hosting.is_hosted:
            fetch_if_restricted(resolve_model(settings.model, settings.revision, self.home), self.home)
        self.release_pair()
        return submit_run(settings, self.home, self.access.visitor().name or "")

    def is_at_work(self) -> bool:
        """Whether a run has the machine or waits for it."""
        return any(not run.status().has_ended() for run in list_runs(self.home))

    def _machine(self) -> Machine:
        from sft_app.training.preflight.plan import Machine

        with self._lock:
            self._looks_at = self._looks_at or Machine(self.home)
            return self._looks_at

    def tokenizer(self, model: str) -> Any:
        """Loads it on first use. Raises: ModelError."""
        from sft_app.models.catalog import resolve_model
        from sft_app.models.loading import load_tokenizer

        self.access.check_model(model)
        key = (model, self.access.whose())
        with self._lock:
            if key not in self._tokenizers:
                self._tokenizers = {key: load_tokenizer(resolve_model(model, None, self.home), self.home)}
            return self._tokenizers[key]

    def pair(self, sides: tuple[Side, Side]) -> LoadedPair:
        """Two sides, loaded unless they are in memory already. Raises: AppError."""
        from sft_app.inference.pair import load_pair

        with self._models_lock:  # not that of the tokenizer, which may wait for a model that is being fetched
            if self._models is not None and not self._models.serves(sides[0]):
                self._forget_models()
            pair = load_pair(sides, self.home, self._models)
            self._models = pair.models
            return pair

    def measure_run(self, side: str | None, prompts: int, on_progress: Progress) -> None:
        """Writes the scorecard of the run that is on this side anew. Raises: AppError."""
        from sft_app.evaluation.score_run import keep_score
        from sft_app.inference.sides import BASE

        self.access.refuse_unless_trusted("measure runs")
        run = self.run_of_side(side)
        check_settled(run, "measure it once it has ended")
        keep_score(run, self.pair(self.find_sides(BASE, run.id)), prompts, on_progress)

    def release_pair(self) -> None:
        """Gives the memory to a run that is about to start."""
        if self._models is not None:
            self._forget_models()

    def _forget_models(self) -> None:
        from sft_app.models.loading import free_memory

        self._models = None
        free_memory()

    def run_to_show(self) -> Run | None:
        """The run at work, else the newest."""
        runs = self.runs()
        return next((run for run in runs if not run.status().has_ended()), runs[0] if runs else None)

    def runs(self) -> list[Run]:
        """Those that the one who asks may see, the newest first."""
        return [run for run in list_runs(self.home) if self.access.sees(run)]

    def waiting_runs(self) -> list[Run]:
        """Of these the queued ones, in the order in which they will run."""
        return [run for run in queued_runs(self.home) if self.access.sees(run)]

    def summaries(self) -> list[RunSummary]:
        """Of the runs that the one who asks may see."""
        return [self.run_files.summary(run) for run in self.runs()]

    def sides(self) -> list[tuple[str, str]]:
        """(label, name) of what can be compared: the base model, then runs and their checkpoints, the newest first."""
        from sft_app.inference.sides import list_sides

        return list_sides(self.runs())

    def find_sides(self, left: str, right: str) -> tuple[Side, Side]:
        """Raises: AppError when one is not there, or no base model answers for both."""
        from sft_app.inference.sides import find_sides

        names = [self._full_name(name) for name in (left or "", right or "")]
        return find_sides(names[0], names[1], self.home)

    def _full_name(self, side: str) -> str:
        """With the whole id of the run, where it is one that the one who asks may see. Raises: AppError where not."""
        from sft_app.inference.sides import BASE

        name = side.strip() or BASE
        self.access.check_side(name)
        run_id, *step = name.split("/checkpoint-")
        if not self.hosting.is_hosted or name == BASE or "/" in run_id:
            return name
        return "/checkpoint-".join([self.get(run_id).id, *step])

    def run_of_side(self, name: str | None) -> Run:
        """The run that a side of Compare is, or whose checkpoint it is. Raises: RunError when it is none."""
        run = self.find_of_side(name)
        if run is None:
            raise RunError("No run is chosen. Choose a run on the right: this compares a run with its base model.")
        return run

    def find_of_side(self, name: str | None) -> Run | None:
        """The same, or None."""
        from sft_app.inference.sides import run_of_side

        return run_of_side(name or "", self.runs())

    def find(self, run_id: str | None) -> Run | None:
        """None when there is no such run (any more)."""
        return next((run for run in self.runs() if run.id == run_id), None)

    def get(self, run_id: str | None) -> Run:
        """Raises: RunError when none is chosen, it is gone, or it is someone else's."""
        return choose_run(self.runs(), run_id or "")


def _nameless(settings: RunSettings) -> RunSettings:
    """The same for all that are measured the same."""
    return settings.model_copy(update={"name": ""})


def _stamp(settings: DataSettings) -> int | None:
    """When the file was last changed; None for a data set of the Hub."""
    try:
        return locate_data(settings.data).stat().st_mtime_ns
    except DataError:
        return None
