"""This app as a Space of the Hugging Face Hub: whole, or as a small one that only compares a published adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_app.data.rows import Progress
from sft_app.errors import ExportError
from sft_app.export.adapter import Files
from sft_app.export.hub_push import Pushed, Repository, Target, checked_name, commit, make_ready, reaching, told_of
from sft_app.hub.client import hub_read_errors
from sft_app.hub.errors import reraise_as
from sft_app.hub.ids import is_hub_id
from sft_app.runtime.environment import ADAPTER_VARIABLE, MODE_VARIABLE
from sft_app.settings import EXAMPLE_DATA

PROJECT = Path(__file__).parents[2]
CODE, NEEDED = "sft_app", ("app.py", "requirements.txt", "README.md", EXAMPLE_DATA)
BESIDE = ("LICENSE", "pre-requirements.txt", "packages.txt")  # where they are there
# With a visitor's login: their own private adapters, and gated base models.
READ_SCOPES = ["read-repos", "gated-repos"]
MARK = f"{CODE}/__init__.py"
INHERITED = ("sdk", "sdk_version", "python_version", "app_file", "license", "emoji", "colorFrom", "colorTo")
PRIVATE_ADAPTER = "{} is private: only visitors who sign in and have access to it on the Hub can compare it."
ABOUT = """# {title}

Ask a question and read two answers side by side: from [{base}](https://huggingface.co/{base}), and from the same model
with the adapter [{adapter}](https://huggingface.co/{adapter}), under equal conditions.

Made with Fine-tune & Compare.
"""


def push_space(target: Target, adapter: str | None = None, on_progress: Progress | None = None) -> Pushed:
    """Makes the Space or brings it up to date, in one commit; `adapter` is one of the Hub, for a comparison Space.

    Raises:
        ExportError: the adapter is none, this is no folder of the app, or the Hub or the network refused.
        AccessError: nobody is logged in.
    """
    shown = adapter and checked_name(adapter)
    with reaching(replace(target, kind="space")) as repository:
        if not shown:
            return _bring_up(repository, project_files(), {}, (), on_progress)
        base, notes = _look_at_adapter(repository.api, shown)
        files = comparison_files(shown, base)
        variables = {MODE_VARIABLE: "demo", ADAPTER_VARIABLE: shown}
        return _bring_up(repository, files, variables, notes, on_progress)


def project_files(project: Path = PROJECT) -> Files:
    """The app with its examples and what its README shows; no tests, no runs, nothing hidden.

    Raises: ExportError when the app was not started from its project folder.
    """
    files = _code_files(project) | _files_below(project, "examples")
    readme = (project / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)", readme):
        if (project / name).is_file():
            files[name] = project / name
    return files | {"README.md": project / "README.md"}


def comparison_files(adapter: str, base: str, project: Path = PROJECT) -> Files:
    """The code and the data that the page opens with, with a README.md of its own. Raises: as `project_files`."""
    data = {EXAMPLE_DATA: project / EXAMPLE_DATA}
    return _code_files(project) | data | {"README.md": comparison_readme(adapter, base, project).encode()}


def comparison_readme(adapter: str, base: str, project: Path = PROJECT) -> str:
    """What the Hub needs to know of the Space, and what a visitor reads. Versions are those of the app's own Space."""
    from huggingface_hub import SpaceCard, SpaceCardData

    own = SpaceCard.load(project / "README.md").data
    title = f"Compare {adapter.rpartition('/')[2]}"
    models = [adapter, base] if is_hub_id(base) else [adapter]  # or a folder of the machine that it was trained on
    data = SpaceCardData(
        title=title,
        models=models,
        short_description="Base and fine-tuned answers side by side",
        startup_duration_timeout="1h",
        hf_oauth=True,
        hf_oauth_scopes=READ_SCOPES,
        **{key: own.get(key) for key in INHERITED},
    )
    return f"---\n{data.to_yaml()}\n---\n\n{ABOUT.format(title=title, base=base, adapter=adapter)}"


def _bring_up(
    repository: Repository,
    files: Files,
    variables: Mapping[str, str],
    notes: tuple[str, ...],
    on_progress: Progress | None,
) -> Pushed:
    is_private, held = make_ready(repository, MARK)
    if not variables and MARK in held:
        _end_comparison(repository)
    for key, value in variables.items():  # before the files, so that the first start has them
        repository.api.add_space_variable(repository.id, key, value)
    dropped = sorted(name for name in held - files.keys() if name.startswith(f"{CODE}/"))
    oid = commit(repository, files, "Fine-tune & Compare", dropped, on_progress)
    return told_of(repository, oid, is_private, len(files), notes)


def _end_comparison(repository: Repository) -> None:
    """What made it one must not keep the whole app a demo."""
    held = repository.api.get_space_variables(repository.id)
    for key in (ADAPTER_VARIABLE, MODE_VARIABLE) if ADAPTER_VARIABLE in held else ():
        repository.api.delete_space_variable(repository.id, key)


def _look_at_adapter(api: Any, adapter: str) -> tuple[str, tuple[str, ...]]:
    """Its base model, and what the person has to know of it."""
    with reraise_as(ExportError), hub_read_errors("adapter", adapter):
        info = api.model_info(adapter)
        if "adapter_config.json" not in {file.rfilename for file in info.siblings or ()}:
            raise ExportError(
                f"{adapter} is not an adapter: it has no adapter_config.json. Push a run's adapter first."
            )
        config = json.loads(Path(api.hf_hub_download(adapter, "adapter_config.json")).read_bytes())
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise ExportError(
            f"{adapter} does not name its base model, so there is nothing to compare. Choose another adapter."
        )
    return base, ((PRIVATE_ADAPTER.format(adapter),) if info.private else ())


def _code_files(project: Path) -> dict[str, Path | bytes]:
    missing = [name for name in (*NEEDED, MARK) if not (project / name).is_file()]
    if missing:
        raise ExportError(f"{missing[0]} is missing in {project}. Start the app from its own folder to push it.")
    own: dict[str, Path | bytes] = {name: project / name for name in (*NEEDED, *BESIDE) if (project / name).is_file()}
    return {**own, **_files_below(project, CODE)}


def _files_below(project: Path, folder: str) -> dict[str, Path | bytes]:
    found = (path for path in sorted((project / folder).rglob("*")) if path.is_file())
    names = {path.relative_to(project): path for path in found}
    return {name.as_posix(): path for name, path in names.items() if not _is_passed_over(name)}


def _is_passed_over(name: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.parts)
