"""Push this app as a Space to the Hugging Face Hub: the whole app, or one that only compares a published adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_app.errors import ExportError
from sft_app.export.adapter import Files
from sft_app.export.hub_push import (
    PushResult,
    PushTarget,
    Repository,
    check_name,
    commit_files,
    ensure_repository,
    open_repository,
    push_result,
)
from sft_app.hub.client import hub_read_errors
from sft_app.hub.errors import reraise_as
from sft_app.hub.ids import is_hub_id
from sft_app.runtime.environment import ADAPTER_VARIABLE, MODE_VARIABLE, PROJECT_DIR
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import EXAMPLE_DATA

CODE_FOLDER, REQUIRED_FILES = "sft_app", ("app.py", "requirements.txt", "README.md", EXAMPLE_DATA)
OPTIONAL_FILES = ("LICENSE", "pre-requirements.txt", "packages.txt")  # if they exist
# Let visitors use their own private adapters and gated base models.
READ_SCOPES = ["read-repos", "gated-repos"]
MARKER_FILE = f"{CODE_FOLDER}/__init__.py"
INHERITED_METADATA = ("sdk", "sdk_version", "python_version", "app_file", "license", "emoji", "colorFrom", "colorTo")
PRIVATE_ADAPTER_NOTE = "{} is private: only visitors who sign in and have access to it on the Hub can compare it."
COMPARISON_README = """# {title}

Ask a question and read two answers side by side: from [{base}](https://huggingface.co/{base}), and from the same model
with the adapter [{adapter}](https://huggingface.co/{adapter}), under equal conditions.

Made with Fine-tune & Compare.
"""


def push_app_as_space(
    target: PushTarget, adapter: str | None = None, on_progress: ProgressCallback | None = None
) -> PushResult:
    """Create or update the Space in one commit; `adapter` is on the Hub, for a comparison Space.

    Raises:
        ExportError: the adapter is invalid, this is not the app's folder, or the Hub or the network refused.
        AccessError: no one is logged in.
    """
    shown = adapter and check_name(adapter)
    with open_repository(replace(target, kind="space")) as repository:
        if not shown:
            return _update_space(repository, project_files(), {}, (), on_progress)
        base, notes = _read_adapter_base(repository.api, shown)
        files = comparison_files(shown, base)
        variables = {MODE_VARIABLE: "demo", ADAPTER_VARIABLE: shown}
        return _update_space(repository, files, variables, notes, on_progress)


def project_files(project: Path = PROJECT_DIR) -> Files:
    """Collect the app with its examples and what its README shows, without tests, runs and hidden files.

    Raises: ExportError if the app was not started from its project folder.
    """
    files = _code_files(project) | _files_below(project, "examples")
    readme = (project / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)", readme):
        if (project / name).is_file():
            files[name] = project / name
    return files | {"README.md": project / "README.md"}


def comparison_files(adapter: str, base: str, project: Path = PROJECT_DIR) -> Files:
    """Collect the code and the initial data of a comparison Space, with its own README.md.

    Raises: as `project_files`.
    """
    data = {EXAMPLE_DATA: project / EXAMPLE_DATA}
    return _code_files(project) | data | {"README.md": comparison_readme(adapter, base, project).encode()}


def comparison_readme(adapter: str, base: str, project: Path = PROJECT_DIR) -> str:
    """Write the README of a comparison Space: metadata for the Hub and text for visitors.

    Versions are those of the app's own Space.
    """
    from huggingface_hub import SpaceCard, SpaceCardData

    own = SpaceCard.load(project / "README.md").data
    title = f"Compare {adapter.rpartition('/')[2]}"
    models = [adapter, base] if is_hub_id(base) else [adapter]  # otherwise a folder on the machine it was trained on
    data = SpaceCardData(
        title=title,
        models=models,
        short_description="Base and fine-tuned answers side by side",
        startup_duration_timeout="1h",
        hf_oauth=True,
        hf_oauth_scopes=READ_SCOPES,
        **{key: own.get(key) for key in INHERITED_METADATA},
    )
    return f"---\n{data.to_yaml()}\n---\n\n{COMPARISON_README.format(title=title, base=base, adapter=adapter)}"


def _update_space(
    repository: Repository,
    files: Files,
    variables: Mapping[str, str],
    notes: tuple[str, ...],
    on_progress: ProgressCallback | None,
) -> PushResult:
    is_private, existing = ensure_repository(repository, MARKER_FILE)
    if not variables and MARKER_FILE in existing:
        _remove_comparison_variables(repository)
    for key, value in variables.items():  # set before the files, for the first start
        repository.api.add_space_variable(repository.id, key, value)
    dropped = sorted(name for name in existing - files.keys() if name.startswith(f"{CODE_FOLDER}/"))
    oid = commit_files(repository, files, "Fine-tune & Compare", dropped, on_progress)
    return push_result(repository, oid, is_private, len(files), notes)


def _remove_comparison_variables(repository: Repository) -> None:
    """Delete a comparison Space's variables, which would keep the full app in demo mode."""
    existing = repository.api.get_space_variables(repository.id)
    for key in (ADAPTER_VARIABLE, MODE_VARIABLE) if ADAPTER_VARIABLE in existing else ():
        repository.api.delete_space_variable(repository.id, key)


def _read_adapter_base(api: Any, adapter: str) -> tuple[str, tuple[str, ...]]:
    """Return the adapter's base model, and notes the user must know."""
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
    return base, ((PRIVATE_ADAPTER_NOTE.format(adapter),) if info.private else ())


def _code_files(project: Path) -> dict[str, Path | bytes]:
    missing = [name for name in (*REQUIRED_FILES, MARKER_FILE) if not (project / name).is_file()]
    if missing:
        raise ExportError(f"{missing[0]} is missing from {project}. Start the app from its own folder to push it.")
    own: dict[str, Path | bytes] = {
        name: project / name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (project / name).is_file()
    }
    return {**own, **_files_below(project, CODE_FOLDER)}


def _files_below(project: Path, folder: str) -> dict[str, Path | bytes]:
    paths = (path for path in sorted((project / folder).rglob("*")) if path.is_file())
    names = {path.relative_to(project): path for path in paths}
    return {name.as_posix(): path for name, path in names.items() if not _is_excluded(name)}


def _is_excluded(name: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.parts)
