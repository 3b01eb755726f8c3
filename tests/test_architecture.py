"""The folders tell the story: imports go one way, heavy libraries stay where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "sft_app"
FILES = sorted(path.relative_to(PROJECT).as_posix() for path in [PROJECT / "app.py", *PACKAGE.rglob("*.py")])
# Each part may import its own row and the rows above it.
LAYERS = [
    {"quick_imports"},
    {"__init__", "errors", "settings"},
    {"runtime"},
    {"runs"},
    {"hub"},
    {"hosting", "storage"},
    {"templating"},
    {"curves"},
    {"data"},
    {"models"},
    {"inference"},
    {"evaluation"},
    {"training", "export"},
    {"ui"},
    {"cli"},
    {"__main__"},
]
# The same inside every folder.
INNER_LAYERS = {
    "settings": ["data", "heldout", "method", "run", "parsing recipe", "__init__"],
    "runtime": [
        "environment operating_system progress",
        "files locks processes resources",
        "children home",
    ],
    "runs": [
        "checkpoints paths records",
        "known learning memorised strength suite_scores",
        "scorecard",
        "logs",
        "folder",
        "directory summary",
    ],
    "hub": ["ids login", "errors", "client"],
    "storage": ["stores", "copies", "restore", "backup"],
    "data": [
        "chat_templates duplicates rows tool_calls words",
        "messages tool_proof",
        "conversation spoken_lines",
        "sources split tool_templates turn_positions",
        "formats tokens",
        "first_rows",
        "reading",
        "checkup",
    ],
    "data/sources": [
        "hub_rows json_wrappers lines python_literals",
        "chat_texts encodings hub json_values packed_files tables txt_files",
        "csv_files json_files parquet_files question_texts sheets text_blocks",
        "text_files",
        "data_files",
    ],
    "data/formats": [
        "column_profiles media",
        "column_names label_words option_columns row_chains usable_rows",
        "column_advice converters row_filters",
        "column_mapping layout speakers",
        "registry",
        "detection reading_notes",
        "late_columns",
    ],
    "data/formats/converters": [
        "annotation_tools candidates code_contests intents message_cells rendered_chats reply_trees turn_order",
        "exports message_order turn_shapes",
        "api_logs batches message_rows tables",
        "chat",
        "preference",
    ],
    "data/checkup": [
        "finding language_words lengths markers pages personal_data sampling subjects",
        "answers languages personal_rows placeholders text_checks unused_text",
        "checks fixes",
        "edits inspection",
    ],
    "models": [
        "apple_gpu gpu_state gpu_support precision starter",
        "catalog hardware",
        "diagnosis layers licence",
        "loading",
        "adapter_strength adapters lora_targets",
        "shapes",
    ],
    "inference": [
        "growing_cache next_tokens small_batch_linear",
        "batched_adapters decoding",
        "captured_steps",
        "generation",
        "sides",
        "device evidence",
        "compute_lock",
        "loaded_models",
        "pair",
        "stream batch_generation",
        "chat pair_tasks",
    ],
    "evaluation/statistics": [
        "anytime bounded exact intervals",
    ],
    "evaluation/forgetting": [
        "general_questions sentences strength",
        "known",
    ],
    "evaluation": [
        "scorable_rows statistics strength_copy tables word_diff",
        "answer_metrics answer_pairs",
        "checking verdicts votes",
        "checks judge margins vote_files",
        "prompt_sets sides",
        "prompt_job suites",
        "scorecard",
        "beside power selection",
        "results",
        "forgetting",
        "score_run",
    ],
    "evaluation/results": [
        "findings",
        "headline",
    ],
    "evaluation/checking": ["patterns signatures written_numbers", "answer_checks json_schemas", "json_checks"],
    "evaluation/sides": [
        "nearest",
        "examples",
        "more_sides",
        "recorded side_metrics",
        "side_names",
        "scored_sides",
    ],
    "evaluation/beside": [
        "memorised prompted prompted_verdicts side_verdicts",
        "memorised_verdict side_scores",
        "beside_training",
    ],
    "evaluation/judge": ["addresses questions", "client", "judgements", "result"],
    "evaluation/suites": [
        "plain_yaml summary",
        "tests_file",
        "kept suggestions table",
        "running",
    ],
    "training": [
        "distributed termination optional_deps divergence tokenized_dataset",
        "fast_paths",
        "estimates",
        "auto_settings",
        "trainable",
        "trainers",
        "callbacks replay saving scoring strength",
        "supervisor",
        "worker",
        "preflight",
        "run_data",
        "launch",
    ],
    "training/replay": ["prompts", "answers", "rows"],
    "training/fast_paths": [
        "attention batch_layouts cpu_fused liger step_plan",
        "cpu_shared_prefix gradient_check loss_head",
        "packed_scores",
    ],
    "training/trainers": ["arguments", "heldout", "gradient_check_mixin", "classic sft", "build"],
    "training/estimates": ["disk memory workload", "speed", "step_size"],
    "training/preflight": ["dry_run machine_speed measuring template_check", "plan", "fitting"],
    "export": [
        "chat_template_parts fidelity markdown public_facts",
        "ollama report_facts fidelity_check",
        "model_card report",
        "adapter",
        "merged",
        "gguf hub_push merge_worker",
        "package space",
    ],
    "cli": [
        "options score_tables",
        "terminal",
        "data_output export judge prompt_tables runs score test",
        "compare data train",
        "app",
        "__init__",
    ],
    "ui": [
        "events forms views run_files",
        "services",
        "context",
        "permissions",
        "file_fields hosting_banner remembered serving",
        "data runs compare export train",
        "page",
    ],
    "ui/services": ["visitors", "access", "data models named_files uploads", "lengths runs", "checkup preflight sides"],
    "ui/serving": ["trusted_hosts zero_gpu", "suites", "api"],
    "ui/data": [
        "views example_views",
        "checkup quick_sources reading_form row_view",
        "editing token_view writing",
        "source_form",
        "tab",
    ],
    "ui/train": ["preflight_views", "preflight_panel", "tab"],
    "ui/runs": ["cancellation run_views", "run_panel several_runs", "tab"],
    "ui/compare": [
        "blind_views conditions further_sides suite_views views",
        "scorecard_views voting",
        "judge_panel",
        "blind_test next_token prompt_set_views report_panel scorecard_panel tests_panel",
        "many_prompts one_prompt",
        "tab",
    ],
    "ui/export": ["views watched", "downloads push_panel", "tab"],
}
# Who may import what; a folder ends with a slash.
HOMES = {
    "gradio": ("app.py", "sft_app/ui/"),
    "trl": ("sft_app/training/",),
    "subprocess": ("sft_app/runtime/",),
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_FUNCTION, LONGEST_FILE, LARGEST_FOLDER, MOST_PUBLIC_METHODS = 60, 300, 20, 15


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
    """`sft_app/data/tokens.py` is of the part `data`, `sft_app/curves.py` of `curves`."""
    return Path(file).parts[depth].removesuffix(".py")


def is_code(path: Path) -> bool:
    """A module, or a folder of them."""
    return path.suffix == ".py" or (path / "__init__.py").is_file()


FOLDERS = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*/__init__.py"))
NOT_EMPTY = {"settings", "cli"}  # whose `__init__` brings their parts together


@pytest.mark.parametrize("file", [file for file in FILES if file != "app.py"])
def test_nothing_imports_upwards(file: str):
    upwards = [
        name
        for name in imports_of(file)
        if name.startswith("sft_app.") and layer_of(name.split(".")[1]) > layer_of(part_of(file))
    ]
    assert upwards == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_data_flows_one_way_inside_a_folder(folder: str):
    layers = [set(names.split()) for names in INNER_LAYERS[folder]]
    depth, inside = len(Path(folder).parts) + 1, f"sft_app.{folder.replace('/', '.')}."
    upwards = [
        f"{file}: {name}"
        for file in FILES
        if file.startswith(f"sft_app/{folder}/") and (part_of(file, depth) != "__init__" or folder in NOT_EMPTY)
        for name in imports_of(file)
        if name.startswith(inside) and layer_of(name.split(".")[depth], layers) > layer_of(part_of(file, depth), layers)
    ]
    assert upwards == []


def test_every_part_of_a_folder_has_its_layer():
    """Also those that nothing imports; and no layer names what is not there."""
    for folder in FOLDERS:
        inside = {path.stem if path.is_file() else path.name for path in (PACKAGE / folder).iterdir() if is_code(path)}
        named = [name for names in INNER_LAYERS[folder] for name in names.split()]
        assert sorted(named) == sorted(inside if folder in NOT_EMPTY else inside - {"__init__"}), folder


def test_imports_never_go_in_a_circle():
    """Those inside functions and for type checking count too."""
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
    waiting = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imports_of(file)} & modules.keys()
        for module, file in modules.items()
    }
    while free := {module for module, needs in waiting.items() if not needs - {module}}:
        waiting = {module: needs - free for module, needs in waiting.items() if module not in free}
    assert waiting == {}


def test_folders_and_files_are_small_enough_to_know():
    lengths = {file: len((PROJECT / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LONGEST_FILE} == {}
    sizes = Counter(Path(file).parent.as_posix() for file in FILES)
    assert {folder: size for folder, size in sizes.items() if size > LARGEST_FOLDER} == {}


def test_classes_have_few_public_methods():
    found = {
        f"{file}: {node.name}": len(public)
        for file in FILES
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ClassDef)
        and len(public := [one for one in node.body if isinstance(one, FUNCTIONS) and not one.name.startswith("_")])
        > MOST_PUBLIC_METHODS
    }
    assert found == {}


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
    functions = [node for node in ast.walk(tree_of(file)) if isinstance(node, FUNCTIONS)]
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
        ("sft_app.export.hub_push", {"torch", "transformers", "trl", "gradio"}),
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
