"""The API over HTTP, as programs call it: the examples of the README, wrong arguments, and what `--json` says too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
HURRIED = {
    "max_steps": 2,
    "max_length": 512,
    "max_new_tokens": 4,
    "scorecard_prompts": 0,
    "heldout_max": 8,
    "replay": 0,
}


@pytest.fixture
def client(finished_run: Any, server: Any) -> Client:
    return Client(server.url, verbose=False)


def example(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)
    return str(block)


@pytest.mark.usefixtures("one_thread")
def test_the_example_in_python_works_as_written(server: Any, tiny_model_dir: Path) -> None:
    code = example("python").replace("http://127.0.0.1:7860", server.url)
    hurried = json.dumps({**HURRIED, "model": str(tiny_model_dir)})
    code = code.replace('"preset": "quick"', f'"preset": "quick", **{hurried}')
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    results, difference = done.stdout.splitlines()[-2:]
    assert "The pot I ordered came broken." in results and "'tuned'" in results
    assert "'loss'" in difference


def test_the_example_with_curl_works_as_written(finished_run: Any, server: Any) -> None:
    code = example("bash").replace("http://127.0.0.1:7860", server.url)
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f'"run": "{finished_run.id}"' in done.stdout and "event: complete" in done.stdout


@pytest.mark.usefixtures("one_thread")
def test_tests_are_run_through_the_api(client: Client, finished_run: Any, tmp_path: Path, cli: Any) -> None:
    tests = [
        {"name": "passes", "prompt": "Hi", "checks": [{"words": [0, 500]}]},
        {"name": "fails", "prompt": "Hi", "checks": [{"contains": "no model says this"}]},
    ]
    found = client.predict("latest", tests, api_name="/run_tests")
    assert [side["passed"] for side in found["sides"]] == [1, 1] and found["paired"]["neither"] == 1
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps(tests))
    on_the_line = cli("test", "latest", "--file", file, "--json").json
    assert found["tests"] == on_the_line["tests"]
    assert [
        test["name"] for test in client.predict("latest", tests, "base", ["passes"], api_name="/run_tests")["tests"]
    ]
    more = client.predict("latest", tests, "base", ["passes"], ["prompted"], api_name="/run_tests")
    assert [side["passed"] for side in more["sides"]] == [1, 1, 1] and len(more["tests"][0]["answers"]) == 3
    with pytest.raises(AppError, match="No tests are saved with this run"):
        client.predict("latest", api_name="/run_tests")
    with pytest.raises(AppError, match="test 1: it has no checks"):
        client.predict("latest", [{"prompt": "Hi"}], api_name="/run_tests")


@pytest.mark.usefixtures("one_thread")
def test_the_api_says_what_the_command_line_says(client: Client, finished_run: Any, cli: Any) -> None:
    told = json.loads(cli("status", finished_run.id, "--json").out)
    assert client.predict("latest", api_name="/run_status") == told
    assert client.predict(api_name="/list_runs") == [told]
    both = client.predict(finished_run.id[:10], ["Hi"], api_name="/compare")
    on_the_line = cli("compare", "latest", "--prompt", "Hi", "--json")
    assert both["run"] == finished_run.id
    assert both["results"][0]["base"]["text"] == json.loads(on_the_line.out)["results"][0]["base"]["text"]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "told"),
    [
        ("/run_status", [["latest"]], r"run: Input should be a valid string, got \['latest'\]"),
        ("/run_status", ["nope"], "There is no run 'nope'"),
        ("/stop_run", ["latest"], "is not running: it is finished"),
        ("/start_run", [[1]], "settings: Input should be a valid dictionary"),
        ("/start_run", [{"max_steps": 0, "nope": 1}], "(?s)max_steps: must be.*nope: there is no setting"),
        ("/start_run", [{"data": "nowhere.jsonl"}], "nowhere.jsonl"),
        ("/upload", ["../../x.exe", "MZ"], "is not the name of a text file"),
        ("/upload", ["x.jsonl", 7], "content: Input should be a valid string"),
        ("/inspect", ["https://example.org/a.jsonl"], "is a web address. Download the file first"),
        ("/compare", ["latest", "Hi"], "prompts: Input should be a valid list"),
        ("/compare", ["latest", ["Hi"], "base", None, 0], "max_new_tokens: .*greater than or equal to 1"),
        ("/compare", ["latest", ["Hi"], "base", None, 4, 9.0], "temperature: .*less than or equal to 2"),
        ("/score", ["latest", "many"], "prompts: .*got 'many'"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(
    shared_client: Client, endpoint: str, arguments: list[Any], told: str
) -> None:
    with pytest.raises(AppError, match=told):
        shared_client.predict(*arguments, api_name=endpoint)


@pytest.fixture(scope="module")
def shared_client(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, give_starter: Callable[[Path], None]
) -> Any:
    """One page for all that only asks; its home has a finished run."""
    from bench.browser import Server
    from sft_app.settings import parse_settings
    from sft_app.training.launch import create_queued_run

    home = tmp_path_factory.mktemp("api")
    data = home / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    data.write_text((json.dumps(row) + "\n") * 12)
    run = create_queued_run(parse_settings({"model": str(tiny_model_dir), "data": str(data), **HURRIED}), home)
    run.update_status(state="finished")
    run.adapter_dir.mkdir()
    give_starter(home)
    server = Server(home)
    yield Client(server.url, verbose=False)
    server.stop()


def test_the_endpoints_name_their_types(shared_client: Client) -> None:
    told = shared_client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(told) == {f"/{name}" for name in (
        "upload", "inspect", "start_run", "run_status", "stop_run", "list_runs", "compare", "score", "run_tests"
    )}  # fmt: skip
    assert [p["parameter_name"] for p in told["/compare"]["parameters"]][:3] == ["run", "prompts", "against"]
    assert all(told[name]["description"] for name in told)


def test_language_models_get_the_same_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_app import hosting
    from sft_app.errors import SettingsError

    assert not hosting.wants_mcp({}) and not hosting.wants_mcp({"SFT_APP_MCP": "0"})
    monkeypatch.setattr(hosting, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r'pip install "gradio\[mcp\]"'):
        hosting.wants_mcp({"SFT_APP_MCP": "1"})
