"""The folders tell the story: imports go one way, heavy libraries stay where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "sft_app"
FILES = sorted(path.relative_to(PROJECT).as_posix() for path in [PROJECT / "app.py", *PACKAGE.rglob("*.py")])
# Each part may import its own row and the rows above it.
LAYERS = [
    {"quick_imports"},
    {"__init__", "errors", "settings", "versions"},
    {"runtime"},
    {"runs"},
    {"hub"},
    {"hosting", "storage"},
    {"curves"},
    {"data"},
    {"models"},
    {"inference"},
    {"evaluation"},
    {"training", "export"},
    {"ui", "cli", "cli_hub", "cli_options", "terminal", "__main__"},
]
# The same within folders that have many parts.
INNER_LAYERS = {
    "runtime": [{"__init__", "files", "home", "processes"}],
    "runs": [
        {"__init__", "records"},
        {"folder", "checkpoints"},
        {"directory", "summary"},
        {"queue"},
    ],
    "hub": [
        {"__init__", "ids", "login"},
        {"errors"},
        {"client"},
    ],
    "data": [
        {"__init__", "conversation", "duplicates"},
        {"sources"},
        {"formats"},
        {"reading"},
        {"tokens", "split"},
        {"checkup"},
    ],
    "storage": [
        {"__init__", "stores"},
        {"copies"},
        {"restoring"},
        {"keeper"},
    ],
    "training": [
        {"__init__", "ranks", "termination", "extras", "open_settings", "divergence"},
        {"fast"},
        {"trainers"},
        {"token_rows", "callbacks", "scoring"},
        {"supervisor"},
        {"worker", "parallel"},
        {"preflight"},
        {"launch"},
    ],
}
# Who may import what; a folder ends with a slash.
HOMES = {
    "gradio": ("app.py", "sft_app/ui/"),
    "trl": ("sft_app/training/",),
    "subprocess": (
        "sft_app/training/supervisor.py",
        "sft_app/training/preflight/measuring.py",  # a dry run is a process that is thrown away
        "sft_app/models/starter.py",
        "sft_app/export/",
    ),
}
LONGEST_FUNCTION = 60


def tree_of(file: str) -> ast.Module:
    return ast.parse((PROJECT / file).read_text(encoding="utf-8"))


def imports_of(file: str) -> Iterator[str]:
    """Dotted names, those inside functions too; `from a import b` gives `a.b`."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides where it leads"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def layer_of(part: str, layers: list[set[str]] = LAYERS) -> int:
    found = [place for place, parts in enumerate(layers) if part in parts]
    assert found, f"{part} stands in no layer; give it one"
    return found[0]


def part_of(file: str, depth: int = 1) -> str:
    """`sft_app/data/tokens.py` is of the part `data`, `sft_app/cli.py` of `cli`."""
    return Path(file).parts[depth].removesuffix(".py")


@pytest.mark.parametrize("file", [file for file in FILES if file != "app.py"])
def test_nothing_imports_upwards(file: str):
    upwards = [
        name
        for name in imports_of(file)
        if name.startswith("sft_app.") and layer_of(name.split(".")[1]) > layer_of(part_of(file))
    ]
    assert upwards == []


@pytest.mark.parametrize("file", [file for file in FILES[1:] if part_of(file) in INNER_LAYERS])
def test_data_flows_one_way_inside_a_folder(file: str):
    folder, layer = part_of(file), layer_of(part_of(file, depth=2), INNER_LAYERS[part_of(file)])
    upwards = [
        name
        for name in imports_of(file)
        if name.startswith(f"sft_app.{folder}.") and layer_of(name.split(".")[2], INNER_LAYERS[folder]) > layer
    ]
    assert upwards == []


@pytest.mark.parametrize("library", HOMES)
def test_library_is_imported_at_home_only(library: str):
    users = [file for file in FILES if library in {name.split(".")[0] for name in imports_of(file)}]
    assert [file for file in users if not file.startswith(HOMES[library])] == []


VIEWS = sorted(file for file in FILES if file.startswith("sft_app/ui/") and file.endswith("views.py"))


@pytest.mark.parametrize("file", VIEWS)
def test_views_know_no_gradio(file: str):
    assert [name for name in imports_of(file) if name.split(".")[0] == "gradio"] == []


@pytest.mark.parametrize("file", FILES)
def test_functions_are_short(file: str):
    functions = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sft_app.cli", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.training.supervisor", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.training.launch", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.data.checkup.inspection", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.export.report", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.export.hub", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.ui.views", {"torch", "transformers", "trl", "gradio"}),
        ("sft_app.ui.page", {"torch", "transformers", "trl"}),
    ],
)
def test_module_starts_without_heavy_libraries(module: str, heavy: set[str]):
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.usefixtures("plain_processes")
def test_help_answers_long_before_gradio_is_imported():
    """Side by side, as the seconds of a busy machine say nothing alone."""
    seconds = {"help": [], "gradio": []}
    for _ in range(2):
        for name, arguments in {"help": ["-m", "sft_app", "--help"], "gradio": ["-c", "import gradio"]}.items():
            begun = time.monotonic()
            done = subprocess.run([sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=99)
            seconds[name].append(time.monotonic() - begun)
            assert done.returncode == 0, done.stderr
            assert name == "gradio" or "train" in done.stdout
    assert min(seconds["help"]) < min(seconds["gradio"]) / 2, seconds
