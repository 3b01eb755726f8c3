"""The command line: what each command prints, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from sft_app.cli import main
from sft_app.cli.terminal import without_library_warnings
from sft_app.errors import ModelError
from sft_app.evaluation.answer_pairs import read_pairs
from sft_app.runs.directory import delete_run, find_run, list_runs
from sft_app.runs.folder import Run
from sft_app.runs.summary import summarise_run
from sft_app.settings import parse_settings
from sft_app.training.launch import create_queued_run
from tests.commands import Ended, assert_one_clear_line
from tests.data.sources.test_sheets import xlsx
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("one_thread")
PROJECT = Path(__file__).resolve().parents[1]
SMALL = ("max_steps=2", "eval_steps=1", "max_length=128", "lora_r=4", "heldout_min=4", "max_new_tokens=4", "replay=0")
COMMANDS = [
    "ui",
    "inspect",
    "train",
    "runs",
    "status",
    "stop",
    "resume",
    "move",
    "delete",
    "compare",
    "score",
    "test",
    "export",
    "doctor",
]
DESIGNED_TRAIN_KEYS = {
    "run",
    "state",
    "steps",
    "train_loss",
    "heldout_loss_base",
    "heldout_loss_tuned",
    "tokens_per_second",
    "seconds",
    "adapter",
}


@pytest.fixture
def busy_machine(home: Path) -> Iterator[None]:
    """Another supervisor seems to be at work: what is queued stays queued. Ends the supervisors that were started."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with FileLock(home / "machine.lock"):
        yield
        for child in psutil.Process().children(recursive=True):
            if child.pid not in before and child.is_running():
                child.kill()
                child.wait(10)


@pytest.fixture
def queued(home: Path, data_file: Path, tiny_model_dir: Path) -> Run:
    return create_queued_run(
        parse_settings({"model": str(tiny_model_dir), "data": str(data_file), "heldout_min": 4}), home
    )


@pytest.fixture(scope="module")
def trained(one_thread: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The real thing once: `python -m sft_app train --json`, with its home."""
    home = tmp_path_factory.mktemp("home")
    data = home / "examples.jsonl"
    rows = [{"prompt": f"Where is order {i}?", "completion": "Soon!"} for i in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "sft_app", "train", "--json", "--name", "A [first] run £"]
    command += ["--data", str(data), "--model", str(tiny_model_dir), "--method", "lora"]
    command += [part for assignment in SMALL for part in ("--set", assignment)]
    environment = {**os.environ, "SFT_APP_HOME": str(home)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=150)
    return home, Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def trained_home(trained: tuple[Path, Ended], home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_APP_HOME", str(trained[0]))
    return trained[0]


def test_help_lists_every_command_of_the_design() -> None:
    done = subprocess.run([sys.executable, "-m", "sft_app", "--help"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Any, command: str) -> None:
    ended = cli(command, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert "Usage" in ended.out


def test_train_prints_one_json_document_with_the_keys_of_the_design(trained: tuple[Path, Ended]) -> None:
    home, ended = trained
    assert ended.status == 0, ended.err
    summary = ended.json
    assert set(summary) == set(summarise_run(find_run(home, "latest")).as_record()) >= DESIGNED_TRAIN_KEYS
    assert (summary["state"], summary["steps"], summary["name"]) == ("finished", 2, "A [first] run £")
    assert Path(summary["adapter"], "adapter_model.safetensors").is_file()
    assert all(summary[key] > 0 for key in ("train_loss", "tokens_per_second", "seconds", "heldout_loss_base"))
    assert summary["heldout_loss_tuned"] < summary["heldout_loss_base"]


def test_train_says_nothing_on_stderr_when_all_is_well(trained: tuple[Path, Ended]) -> None:
    assert trained[1].err == ""


def test_runs_and_status_print_the_summary_that_train_printed(
    cli: Any, trained: tuple[Path, Ended], trained_home: Path
) -> None:
    summary = trained[1].json
    assert cli("runs", "--json").json == [summary]
    for reference in ("latest", summary["run"], summary["run"][:-2]):
        assert cli("status", reference, "--json").json == summary


def test_runs_and_status_for_people_name_the_run(cli: Any, trained_home: Path) -> None:
    run = find_run(trained_home, "latest")
    listed, told = cli("runs"), cli("status", "latest")
    assert (listed.status, listed.err, told.status, told.err) == (0, "", 0, "")
    assert "finished" in listed.out
    assert run.id in told.out and "2/2" in told.out


def test_compare_prints_one_json_document_with_the_keys_of_the_design(cli: Any, trained_home: Path) -> None:
    command = ("compare", "latest", "--prompt", "Hi", "--prompt", "Where?", "--max-new-tokens", "3", "--json")
    ended = cli(*command)
    assert ended.status == 0, ended.err
    document = ended.json
    assert set(document) == {"run", "results"}
    assert document["run"] == find_run(trained_home, "latest").id
    assert [result["prompt"] for result in document["results"]] == ["Hi", "Where?"]
    for result in document["results"]:
        assert set(result) == {"prompt", "base", "tuned", "evidence"}
        assert set(result["base"]) == set(result["tuned"]) == {"text", "tokens", "finished"}
        assert result["base"]["tokens"] <= 3
        assert result["evidence"]["adapter_active"] is True
        assert result["evidence"]["identical"] in (True, False)
    assert cli(*command).out == ended.out


def test_compare_for_people_shows_both_answers_and_their_evidence(cli: Any, trained_home: Path) -> None:
    ended = cli("compare", "latest", "--max-new-tokens", "3")
    assert ended.status == 0, ended.err
    run = find_run(trained_home, "latest")
    assert "Base model" in ended.out and (run.record().settings.name or run.id) in ended.out
    assert "adapter active in 14 modules" in ended.out


def test_compare_answers_a_file_of_prompts_and_keeps_them_with_the_run(
    cli: Any, trained_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("q,expected\nWhere is it?,Here\nWhen [b]?,Now\n")
    command = ("compare", "latest", "--prompts", tmp_path / "mine.csv", "--prompt-column", "q", "--max-new-tokens", "3")
    ended = cli(*command, "--json", "--out", tmp_path / "out.jsonl")
    assert ended.status == 0, ended.err
    results = ended.json["results"]
    assert [(one["prompt"], one["reference"]) for one in results] == [("Where is it?", "Here"), ("When [b]?", "Now")]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == results
    kept = read_pairs(find_run(trained_home, "latest"))
    assert [(one["base"], one["tuned"]) for one in results] == [(pair.base, pair.tuned) for pair in kept[-2:]]
    shown = cli(*command)
    assert "2 prompts answered in" in shown.out and "When [b]?" in shown.out


def test_compare_answers_with_more_sides_and_asks_whether_the_run_is_not_worse(
    cli: Any, trained_home: Path, tmp_path: Path
) -> None:
    prompts = "".join(f"Where is parcel {number}?,It is here{' now' * number}.\n" for number in range(12))
    (tmp_path / "mine.csv").write_text(f"prompt,reference\n{prompts}")
    (tmp_path / "old.csv").write_text(f"prompt,answer\n{prompts}")
    old = tmp_path / "old.csv"
    command = ("compare", "latest", "--prompts", tmp_path / "mine.csv", "--max-new-tokens", "3", "--side", old)
    asked = (*command, "--side", "prompted", "--not-worse-than", old, "--margin", "0.05")
    ended = cli(*asked, "--json", "--out", tmp_path / "out.csv")
    assert ended.status == 0, ended.err
    assert [side["name"] for side in ended.json["sides"]] == ["base", "tuned", "old.csv", "prompted"]
    assert (
        ended.json["sides"][2]["metrics"]["exact_match"] == 1 and ended.json["results"][0]["old.csv"] == "It is here."
    )
    assert ended.json["not_worse"]["verdict"] == "worse" and ended.json["not_worse"]["prompts"] == 12
    assert (tmp_path / "out.csv").read_text().startswith("number,prompt,reference,base,tuned,old.csv,prompted,change")
    for more, message in (
        (("--not-worse-than", "new.csv", "--margin", "0.05"), "not one of the other sides"),
        (("--margin", "0.05"), "--not-worse-than SIDE and --margin belong together"),
        (("--side", tmp_path / "old.csv"), "Name each side once"),
    ):
        assert message in cli(*command, *more).err
    assert "--side requires --prompts FILE" in cli("compare", "latest", "--side", "base").err


def test_compare_refuses_what_does_not_go_with_a_file_of_prompts(cli: Any, trained_home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\nHi,\n")
    many = ("compare", "latest", "--prompts", tmp_path / "a.csv")
    assert_one_clear_line(cli(*many), "No column of a.csv could be identified as the prompts. Choose one of: q, a.")
    assert_one_clear_line(cli(*many, "--prompt", "Hi"), "--prompts cannot be combined with --prompt")
    assert_one_clear_line(cli(*many, "--out", "x.pdf"), "answers can be written as .csv or .jsonl, got '.pdf'")
    assert_one_clear_line(cli("compare", "latest", "--out", "x.csv"), "--out requires --prompts FILE")


def test_score_measures_a_copy_at_another_strength(cli: Any, trained_home: Path) -> None:
    run = find_run(trained_home, "latest")
    ended = cli("score", "latest", "--prompts", "0", "--strength", "0.5", "--json")
    assert ended.status == 0, ended.err
    copy = find_run(trained_home, ended.json["run"])
    try:
        strength = copy.strength()
        assert copy.id != run.id and strength is not None and strength.chosen == 0.5
        assert "set by hand" in ended.json["note"] and run.strength() is None
        again = cli("score", copy.id, "--prompts", "0", "--strength", "0.5")
        assert_one_clear_line(again, "The adapter of this run has a strength of 0.5 already.")
    finally:
        delete_run(copy)
    assert_one_clear_line(cli("score", "latest", "--strength", "2"), "The strength must be between 0.05 and 1.5")
    assert [run.id for run in list_runs(trained_home)] == [run.id]


def test_score_asks_more_sides_the_same_questions(cli: Any, trained_home: Path, tmp_path: Path) -> None:
    heldout = find_run(trained_home, "latest").heldout_file.read_text().splitlines()
    rows = [json.loads(line)["messages"] for line in heldout]
    recorded = [{"prompt": turns[0]["content"], "answer": turns[-1]["content"]} for turns in rows]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recorded))
    ended = cli("score", "latest", "--prompts", "2", "--side", tmp_path / "old.jsonl", "--json")
    assert ended.status == 0, ended.err
    (side,) = ended.json["sides"]
    assert side["name"] == "old.jsonl" and side["answers"]["base"]["exact_match"] == 1
    assert_one_clear_line(cli("score", "latest", "--prompts", "0", "--side", "base"), "--side requires questions")
    assert_one_clear_line(cli("score", "latest", "--prompts", "2", "--side", "base"), "Name each side once")


def test_score_writes_the_scorecard_with_the_keys_of_the_design(cli: Any, trained_home: Path) -> None:
    ended = cli("score", "latest", "--prompts", "2", "--json")
    assert ended.status == 0, ended.err
    card = ended.json
    compared = {"heldout", "base", "tuned", "difference", "rows", "general", "known", "answers", "most_changed"}
    assert set(card) >= compared | {"dtype", "note", "primary"}
    assert set(card) <= compared | {"dtype", "note", "primary", "selection", "prompted", "memorised", "sides"}
    assert set(card["heldout"]) == {"conversations", "trained_tokens", "groups"}
    assert set(card["difference"]["loss"]) == {"value", "low", "high", "p_value"}
    assert set(card["difference"]["token_accuracy"]) == {"value", "low", "high", "p_value", "p_holm"}
    assert card["answers"]["prompts"] == 2
    assert find_run(trained_home, "latest").scorecard().as_record() == card


def test_score_for_people_says_what_it_means(cli: Any, trained_home: Path) -> None:
    ended = cli("score", "latest", "--prompts", "1")
    assert ended.status == 0, ended.err
    assert "did it forget?" in ended.out and "token accuracy" in ended.out
    assert "held-out answers" in ended.out


def test_export_writes_the_report_and_says_where(cli: Any, trained_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "for" / "the boss"
    ended = cli("export", "latest", "--as", "report", "--to", folder)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [str(folder / "report.html"), str(folder / "report.md")]
    assert "A [first] run £" in (folder / "report.html").read_text(encoding="utf-8")
    assert "A \\[first\\] run £" in (folder / "report.md").read_text(encoding="utf-8")
    assert str(trained_home) not in (folder / "report.html").read_text(encoding="utf-8")


def test_export_writes_the_adapter_as_a_zip(cli: Any, trained_home: Path, tmp_path: Path) -> None:
    ended = cli("export", "latest", "--as", "adapter", "--to", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    with zipfile.ZipFile(ended.out.strip()) as packed:
        assert "adapter_model.safetensors" in {Path(name).name for name in packed.namelist()}


def test_export_merges_and_tells_ollama_how(
    cli: Any, trained_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = find_run(trained_home, "latest")
    folder = tmp_path / "out" / f"{run.id}-merged"
    ended = cli("export", "latest", "--as", "merged", "--to", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    assert str(folder / "model.safetensors") in ended.out.splitlines()
    assert "The merged model predicts the held-out answers" in ended.out and "Modelfile" not in ended.out
    made = (folder / "model.safetensors").stat().st_mtime_ns

    ended = cli("export", "latest", "--as", "ollama", "--to", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    assert (folder / "model.safetensors").stat().st_mtime_ns == made  # it is not merged again
    assert str(folder / "Modelfile") in ended.out
    assert f"-f {folder}/Modelfile" in ended.out and "ollama run a-first-run" in ended.out
    assert "convert_hf_to_gguf.py" in ended.out
    assert "\nFROM .\n" in (folder / "Modelfile").read_text(encoding="utf-8")

    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "convert_hf_to_gguf.py").write_text("import sys; open(sys.argv[3], 'w').write('GGUF')")
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path / "llama"))
    ended = cli("export", "latest", "--as", "ollama", "--to", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    assert "\nFROM ./model-q8_0.gguf\n" in (folder / "Modelfile").read_text(encoding="utf-8")
    assert str(folder / "model-q8_0.gguf") in ended.out and "git clone" not in ended.out


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("report", "The report could not be written to"),
        ("adapter", "could not be zipped"),
        ("merged", "cannot be written to"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(
    cli: Any, trained_home: Path, tmp_path: Path, kind: str, told: str
) -> None:
    (tmp_path / "file").write_text("")
    assert_one_clear_line(cli("export", "latest", "--as", kind, "--to", tmp_path / "file"), told)


def test_a_run_without_an_adapter_has_a_report_and_nothing_to_pack(cli: Any, queued: Run, tmp_path: Path) -> None:
    assert cli("export", "latest", "--as", "report", "--to", tmp_path / "out").status == 0
    assert_one_clear_line(cli("export", "latest", "--as", "adapter", "--to", tmp_path), "has no adapter to download")


def test_inspect_prints_one_json_document_with_the_keys_of_the_design(
    cli: Any, tmp_path: Path, tiny_model_dir: Path
) -> None:
    data = tmp_path / "mixed.jsonl"
    data.write_text('{"prompt": "Hi", "completion": "Hello"}\nnot json\n{"prompt": "Hi", "completion": ""}\n')
    ended = cli("inspect", data, "--model", tiny_model_dir, "--json", "--out", tmp_path / "clean.jsonl")
    assert ended.status == 0, ended.err
    report = ended.json
    assert set(report) >= {"format", "rows", "conversations", "rejected", "findings", "tokens", "turns", "split"}
    assert (report["format"], report["rows"], report["conversations"]) == ("prompt_completion", 3, 1)
    assert [row["row"] for row in report["rejected"]] == [2, 3]
    assert all(set(row) == {"row", "reason"} for row in report["rejected"])
    assert {"p50", "p95", "max"} <= set(report["tokens"])
    (line,) = (tmp_path / "clean.jsonl").read_text().splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]] == ["Hi", "Hello"]
    assert cli("inspect", data, "--model", tiny_model_dir).status == 0


def test_inspect_reads_a_table_by_its_named_columns(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text("a\tb\tc\n" + "".join(f"{n}\tWhat is {n}?\tIt is {n}\n" for n in range(9)))
    arguments = ["inspect", table, "--model", tiny_model_dir, "--map", "user=b", "--map", "assistant=c"]
    report = cli(*arguments, "--json").json
    assert (report["format"], report["conversations"]) == ("columns", 9)
    told = cli(*arguments)
    assert told.status == 0 and "user=b assistant=c" in told.out
    assert_one_clear_line(
        cli("inspect", table, "--map", "user=b"), "both user=COLUMN and assistant=COLUMN are required"
    )


@pytest.fixture
def guessed_table(tmp_path: Path) -> Path:
    """Nothing but the question marks says which column asks."""
    table = tmp_path / "table.csv"
    table.write_text("left,right,agent\n" + "".join(f"It is surely {n},What is {n} and {n}?,Joe\n" for n in range(12)))
    return table


def test_inspect_reads_the_sheet_that_is_named(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> None:
    rows = [["question", "answer"], ["How do I reset it?", "Hold the red button."]]
    book = xlsx(tmp_path / "a.xlsx", {"Prices": [["item", "price"], ["lamp", 5]], "Help": rows})
    ended = cli("inspect", book, "--model", tiny_model_dir, "--sheet", "help", "--json")
    assert json.loads(ended.out)["reading"]["example"][1]["content"] == "Hold the red button."
    assert_one_clear_line(cli("inspect", book, "--sheet", "Faq"), "no sheet 'Faq'; choose one of: Help, Prices")


def test_inspect_says_that_a_reading_is_a_guess_with_an_example(
    cli: Any, guessed_table: Path, tiny_model_dir: Path
) -> None:
    arguments = ["inspect", guessed_table, "--model", tiny_model_dir]
    reading = cli(*arguments, "--json").json["reading"]
    assert (reading["certainty"], reading["notes"]) == ("guess", ["Not used: `agent`."])
    assert [message["content"] for message in reading["example"]] == ["What is 0 and 0?", "It is surely 0"]
    told = cli(*arguments).out
    assert "This layout is a guess" in told and "assistant: It is surely 0" in told
    chosen = cli(*arguments, "--map", "user=left", "--map", "assistant=right", "--json").json
    assert (chosen["reading"]["certainty"], chosen["guesses"]) == ("chosen", [])
    assert "question marks" not in json.dumps(chosen)


@pytest.mark.usefixtures("busy_machine")
def test_train_says_before_training_that_a_reading_is_a_guess(
    cli: Any, guessed_table: Path, tiny_model_dir: Path
) -> None:
    arguments = ["train", "--detach", "--json", "--data", guessed_table, "--model", tiny_model_dir, "--set"]
    ended = cli(*arguments, "heldout_min=2")
    assert ended.json["state"] == "queued"
    assert "This layout is a guess" in ended.err and "user: What is 0 and 0?" in ended.err
    chosen = cli(*arguments, "heldout_min=3", "--map", "user=left", "--map", "assistant=right")
    assert "guess" not in chosen.err and "Not used: `agent`." in chosen.err


def test_inspect_fixes_a_copy_and_leaves_the_source(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> None:
    source, clean = tmp_path / "source.jsonl", tmp_path / "clean.jsonl"
    row = {"prompt": "Who are you?", "completion": "Ask joe@shop.co"}
    source.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    before = source.read_bytes()
    ended = cli("inspect", source, "--model", tiny_model_dir, "--fix", "--out", clean)
    assert ended.status == 0, ended.err
    assert "fixed: Remove exact duplicates: 1 row" in ended.out
    (line,) = clean.read_text().splitlines()
    assert json.loads(line)["messages"][-1]["content"] == "Ask [email]"
    assert source.read_bytes() == before
    assert_one_clear_line(cli("inspect", source, "--fix"), "--fix requires --out FILE")
    assert_one_clear_line(cli("inspect", source, "--model", tiny_model_dir, "--fix", "--out", source), "overwrite")


def test_doctor_prints_one_json_document(cli: Any, home: Path) -> None:
    facts = cli("doctor", "--json").json
    assert facts["home"] == str(home)
    assert {"device", "dtype", "memory_gib", "disk_free_gib", "torch", "python"} <= set(facts)
    told = cli("doctor")
    assert (told.status, told.err) == (0, "")
    assert facts["dtype"] in told.out


def test_no_runs_is_an_empty_list(cli: Any) -> None:
    assert cli("runs", "--json").json == []
    assert "There are no runs yet" in cli("runs").out


def test_stop_delete_and_their_words(cli: Any, queued: Run, home: Path) -> None:
    stopped = cli("stop", "latest")
    assert stopped.status == 0 and queued.id in stopped.out
    assert queued.status().state == "stopped"
    deleted = cli("delete", queued.id)
    assert deleted.status == 0 and queued.id in deleted.out
    assert list_runs(home) == []


@pytest.mark.usefixtures("busy_machine")
def test_move_changes_the_order_of_the_queue(cli: Any, queued: Run, home: Path) -> None:
    other = Run(Path(shutil.copytree(queued.path, queued.path.with_name("29991231-235959-zzzz"))))
    for arguments, expected in (
        (["--first"], [other, queued]),
        (["--by", "1"], [queued, other]),
        (["--by", "-1"], [other, queued]),
        (["--last"], [queued, other]),
    ):
        moved = cli("move", other.id, *arguments)
        assert moved.status == 0
        assert moved.out.split() == f"Queue order: {expected[0].id}, {expected[1].id}".split()
    for wrong in ([], ["--first", "--last"], ["--first", "--by", "2"]):
        refused = cli("move", other.id, *wrong)
        assert refused.status == 2 and "use one of --first, --last or --by N" in " ".join(refused.err.split())
    cli("stop", other.id)
    assert_one_clear_line(cli("move", other.id, "--first"), "is stopped; only a queued run can be moved.")


def test_resume_puts_the_run_back_into_the_queue(cli: Any, queued: Run) -> None:
    cli("stop", "latest")
    resumed = cli("resume", "latest")
    assert resumed.status == 0 and queued.id in resumed.out
    assert queued.status().state == "queued"
    assert not queued.stop_is_requested()


@pytest.mark.usefixtures("busy_machine")
def test_detached_train_returns_at_once_with_the_queued_run(
    cli: Any, data_file: Path, tiny_model_dir: Path, home: Path
) -> None:
    ended = cli("train", "--detach", "--json", "--data", data_file, "--model", tiny_model_dir)
    assert ended.status == 0, ended.err
    assert ended.json["state"] == "queued"
    assert ended.json["run"] == find_run(home, "latest").id
    told = cli("train", "--detach", "--data", data_file, "--model", tiny_model_dir)
    assert "python -m sft_app status" in told.out


@pytest.mark.usefixtures("busy_machine")
def test_flags_stand_over_assignments_over_the_config_file(
    cli: Any, data_file: Path, tiny_model_dir: Path, home: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"data": str(data_file), "model": "starter", "max_steps": 7, "lora_r": 5}))
    ended = cli("train", "--detach", "--config", config, "--model", tiny_model_dir, "--set", "max_steps=9")
    assert ended.status == 0, ended.err
    settings = find_run(home, "latest").record().settings
    assert (settings.model, settings.max_steps, settings.lora_r) == (str(tiny_model_dir), 9, 5)
    assert settings.data == str(data_file)


def heed_interrupts() -> None:
    """A process that is started in the background inherits that SIGINT is ignored, as these tests may have been."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_leaves_the_run_running_and_says_how_to_stop_it(
    home: Path, data_file: Path, tiny_model_dir: Path, busy_machine: None
) -> None:
    command = [sys.executable, "-m", "sft_app", "train", "--json"]
    command += ["--data", str(data_file), "--model", str(tiny_model_dir)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    following = subprocess.Popen(
        command, cwd=PROJECT, text=True, start_new_session=True, preexec_fn=heed_interrupts, **pipes
    )

    def supervisor_at_work() -> psutil.Process | None:
        children = psutil.Process(following.pid).children()
        return next((child for child in children if child.cpu_times().user > 0.1), None)

    supervisor = wait_until(supervisor_at_work)
    os.killpg(following.pid, signal.SIGINT)  # as a terminal does
    out, err = following.communicate(timeout=30)
    run = find_run(home, "latest")
    assert_one_clear_line(
        Ended(following.returncode, out, err),
        f"Run {run.id} continues in the background. Stop it with: python -m sft_app stop {run.id}",
    )
    assert supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE
    assert run.status().state == "queued"
    supervisor.kill()


def test_train_that_fails_prints_its_summary_and_one_line(
    cli: Any, queued: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training import launch

    queued.update_status(state="failed", message="The reason.")
    monkeypatch.setattr(launch, "submit_run", lambda *_: queued)
    ended = cli("train", "--json")
    assert ended.status == 1
    assert ended.json["state"] == "failed"
    assert ended.err == f"Error: Run {queued.id} failed: The reason.\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["status", "latest"], ["There are no runs in"]),
        (["train", "--data", "no/such.jsonl"], ["There is no data file no/such.jsonl."]),
        (["train", "--set", "max_steps"], ["--set max_steps: expected NAME=VALUE"]),
        (["train", "--set", "max_steps=many"], ["max_steps: ", "'many'"]),
        (["train", "--set", "max_stepz=3"], ["max_stepz: there is no setting with this name."]),
        (["train", "--config", "no/such.json"], ["no/such.json cannot be read as JSON"]),
        (
            ["train", "--model", "org/no-such-model"],
            ["org/no-such-model cannot be fetched because HF_HUB_OFFLINE is set"],
        ),
        (["train", "--model", "not a model"], ["Model 'not a model': expected starter, a Hub id"]),
        (["inspect", "no/such.csv"], ["There is no data file no/such.csv."]),
        (
            ["inspect", "docs/LOG.md"],
            ["LOG.md: this is a text with markup, without a table", "rename it to end in .txt."],
        ),
    ],
)
def test_error_is_one_line_on_stderr(
    cli: Any, arguments: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from huggingface_hub import constants

    (tmp_path / "README.md").write_text("# Title")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    assert_one_clear_line(cli(*arguments), *parts)
    assert list_runs(home) == []


def test_several_faults_of_the_settings_are_all_named(cli: Any) -> None:
    ended = cli("train", "--set", "max_steps=many", "--set", "lora_r=0", "--set", "colour=red")
    assert_one_clear_line(ended, "max_steps: ", "lora_r: ", "colour: there is no setting with this name.")


def test_errors_about_a_run_name_it(cli: Any, queued: Run) -> None:
    assert_one_clear_line(cli("status", "1999"), "There is no run '1999'. `python -m sft_app runs` lists them.")
    assert_one_clear_line(cli("compare", "latest"), f"Run {queued.id} is queued and has no adapter to compare yet")
    assert_one_clear_line(cli("resume", "latest"), "is queued; only a stopped, failed or interrupted run can be")
    cli("stop", "latest")
    assert_one_clear_line(cli("stop", "latest"), f"Run {queued.id} is not running: it is stopped")
    me = psutil.Process()
    queued.update_status(state="training", pid=me.pid, pid_started=me.create_time())
    assert_one_clear_line(cli("delete", "latest"), "is training; stop it before deleting it")
    assert_one_clear_line(cli("score", "latest"), "is training; measure it once it has ended")


def test_data_that_is_too_small_leaves_no_run(cli: Any, tmp_path: Path, tiny_model_dir: Path, home: Path) -> None:
    data = tmp_path / "few.jsonl"
    data.write_text('{"prompt": "Hi", "completion": "Hello"}\n' * 3)
    assert_one_clear_line(cli("train", "--data", data, "--model", tiny_model_dir), "3 conversations are too few")
    assert list_runs(home) == []


@pytest.mark.parametrize("text", ["[1, 2]", "7", '"text"'])
def test_config_that_is_no_object_is_refused(cli: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert_one_clear_line(
        cli("train", "--config", tmp_path / "config.json"), "must contain a JSON object with settings"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status"],
        ["train", "--no-such-flag"],
        ["train", "--method", "magic"],
        ["train", "--preset", "slow"],
        ["compare", "latest", "--temperature", "9"],
        ["compare", "latest", "--max-new-tokens", "none"],
        ["inspect", "x.jsonl", "--format", "xml"],
        ["export", "latest", "--as", "poem", "--to", "x"],
        ["export", "latest", "--as", "report"],
    ],
)
def test_wrong_usage_ends_with_status_2(cli: Any, arguments: list[str]) -> None:
    ended = cli(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err


MARKUP = "[/x] [bold]"


def test_name_of_a_run_is_never_read_as_markup(cli: Any, data_file: Path, tiny_model_dir: Path, home: Path) -> None:
    settings = {"model": str(tiny_model_dir), "data": str(data_file), "heldout_min": 4, "name": MARKUP}
    create_queued_run(parse_settings(settings), home)
    for command in (("runs",), ("status", "latest")):
        ended = cli(*command)
        assert ended.status == 0
        assert "[/x]" in ended.out


def test_prompt_is_never_read_as_markup(cli: Any, trained_home: Path) -> None:
    ended = cli("compare", "latest", "--prompt", MARKUP, "--max-new-tokens", "2")
    assert ended.status == 0
    assert MARKUP in ended.out


def test_data_is_never_read_as_markup(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    rows += [{"messages": [{"role": MARKUP, "content": "Hi"}]}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = cli("inspect", tmp_path / "data.jsonl", "--model", tiny_model_dir)
    assert ended.status == 0
    assert "[/x]" in ended.out


def test_loss_that_is_not_a_number_is_still_json(cli: Any, queued: Run) -> None:
    queued.log_metric(step=0, heldout_loss=2.0)
    queued.log_metric(step=1, loss=float("nan"), tokens_per_second=1.0)
    queued.log_metric(step=1, heldout_loss=float("inf"))
    assert cli("status", "latest", "--json").json["heldout_loss_base"] == 2.0
    assert cli("status", "latest").status == 0


def test_chatter_of_libraries_stays_out_of_the_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """bitsandbytes warns of a fast path that is not installed when it is first imported. Errors are still heard."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with without_library_warnings():
        logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community")
        warnings.warn("a setting will be renamed", stacklevel=1)
        logger.error("the disk is gone")
    assert logger.isEnabledFor(logging.WARNING)
    heard = capfd.readouterr()
    assert "gemm_4bit_forward" not in heard.err + heard.out and "renamed" not in heard.err


@pytest.mark.parametrize("command", ["compare", "score"])
def test_commands_that_answer_are_without_chatter(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def look(*_: object) -> None:
        heard.append(logging.getLogger("bitsandbytes").isEnabledFor(logging.WARNING))
        raise ModelError("Enough.")

    monkeypatch.setattr("sft_app.evaluation.sides.side_names.find_pair_and_more", look)
    monkeypatch.setattr("sft_app.cli.score.find_run", look)
    with pytest.raises(SystemExit):
        main([command, "latest"])
    assert heard == [False]


def test_train_refuses_a_base_model_and_names_the_option_to_add(
    cli: Any, base_model_dir: Path, data_file: Path, home: Path
) -> None:
    ended = cli("train", "--model", base_model_dir, "--data", data_file)
    assert_one_clear_line(ended)
    assert "--chat-template chatml" in ended.err
    assert list_runs(home) == []


def test_a_chat_template_can_be_chosen_by_name_or_as_a_file(
    cli: Any, base_model_dir: Path, data_file: Path, home: Path, tmp_path: Path, busy_machine: None
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for message in messages %}{{ message['content'] }};{% endfor %}")
    detached = ("train", "--model", base_model_dir, "--data", data_file, "--detach", "--json", "--chat-template")
    named, own = cli(*detached, "chatml"), cli(*detached, file)
    assert (named.json["chat_template"], named.err) == ("ChatML", "")
    assert own.json["chat_template"].startswith("pasted (sha256 ")
    assert "ends answers without a special token" in own.err
    assert find_run(home, own.json["run"]).record().settings.chat_template == file.read_text()


def test_inspect_reads_with_the_chosen_chat_template(cli: Any, base_model_dir: Path, data_file: Path) -> None:
    refused = cli("inspect", data_file, "--model", base_model_dir)
    assert "no chat template" in refused.err
    chosen = ("inspect", data_file, "--model", base_model_dir, "--chat-template", "{{ messages[0]['content'] + 'b' }}")
    ended = cli("inspect", data_file, "--model", base_model_dir, "--chat-template", "chatml", "--json")
    assert ended.json["chat_template_notes"] == []
    assert "changes the text of message 2" in cli(*chosen).err


def test_compare_asks_both_sides_to_think_first(cli: Any, trained_home: Path) -> None:
    ended = cli("compare", "latest", "--prompt", "Hi", "--enable-thinking", "--json")
    assert "cannot turn thinking on or off" in ended.json["results"][0]["evidence"]["note"]


def test_train_notes_that_a_model_cannot_think(
    cli: Any, tiny_model_dir: Path, data_file: Path, busy_machine: None
) -> None:
    setting = ("--set", "enable_thinking=true", "--detach", "--json")
    ended = cli("train", "--model", tiny_model_dir, "--data", data_file, *setting)
    assert ended.status == 0 and "cannot turn thinking on or off" in ended.err
