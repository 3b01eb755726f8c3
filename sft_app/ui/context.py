"""What the page keeps in memory between clicks: one service for each subject. Everything else is on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sft_app.hosting import Hosting
from sft_app.ui.run_files import RunFiles
from sft_app.ui.services.access import Access
from sft_app.ui.services.checkup import CheckupService
from sft_app.ui.services.data import DataService
from sft_app.ui.services.lengths import LengthService
from sft_app.ui.services.models import ModelService
from sft_app.ui.services.preflight import PreflightService
from sft_app.ui.services.runs import RunService
from sft_app.ui.services.sides import SideService
from sft_app.ui.services.uploads import UploadService


@dataclass
class PageContext:
    """The services of one page, made once by `build_page` and passed to the tabs.

    A local page listens only to this machine.
    """

    home: Path
    hosting: Hosting = field(default_factory=Hosting)
    is_local: bool = True
    access: Access = field(init=False)
    uploads: UploadService = field(init=False)
    data: DataService = field(init=False)
    models: ModelService = field(init=False)
    lengths: LengthService = field(init=False)
    checkup: CheckupService = field(init=False)
    preflight: PreflightService = field(init=False)
    runs: RunService = field(init=False)
    sides: SideService = field(init=False)

    def __post_init__(self) -> None:
        self.access = Access(self.hosting, self.home)
        self.uploads = UploadService(self.home, self.access)
        self.data = DataService(self.home, self.access)
        self.models = ModelService(self.home, self.access)
        self.lengths = LengthService(self.data, self.models)
        self.checkup = CheckupService(self.data, self.models, self.lengths)
        self.preflight = PreflightService(self.home, self.data, self.lengths)
        self.runs = RunService(self.home, self.access, self.models, RunFiles(self.home))
        self.sides = SideService(self.home, self.access, self.models, self.runs)
