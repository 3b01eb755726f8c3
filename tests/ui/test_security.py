"""What somebody with bad intent would try on page and API. Nothing gets through, and each try gets a sentence."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from sft_app.errors import AccessError
from sft_app.hosting import Hosting
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.launch import create_queued_run
from sft_app.ui.context import PageContext
from sft_app.ui.services.uploads import keep_upload
from tests.ui.hosted import Refused, Space, hub_of_names

SPACE = Hosting(space="alice/studio", owner="alice")
TRAVERSALS = ("../../../etc/passwd", "/etc/passwd", "..\\..\\secret", "....//....//etc/passwd", "%2e%2e%2fetc%2fpasswd")
SCRIPT = "<script>window.caught = 1</script><img src=x onerror='window.caught = 2'><svg onload='window.caught = 3'>"


class Exploit:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def space(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, give_starter: Callable[[Path], None]
) -> Iterator[Space]:
    """A full Space in which Alice has a run, as she sees it; it can be reached by anyone."""
    home = tmp_path_factory.mktemp("security")
    give_starter(home)
    data = home / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "My secret is 4711"}, {"role": "assistant", "content": "Hello"}]}
    data.write_text((json.dumps(row) + "\n") * 12)
    run = create_queued_run(parse_settings({"model": str(tiny_model_dir), "data": str(data)}), home, "Alice")
    run.update_status(state="finished")
    with hub_of_names({"hf_a": "Alice", "hf_c": "carol"}) as hub:
        space = Space(home, f"http://127.0.0.1:{hub.server_port}", SFT_APP_MODE="full", SFT_APP_ALLOWED="carol")
        yield space
        space.stop()


@pytest.mark.parametrize("text", TRAVERSALS)
def test_no_text_leads_out_of_the_home(space: Space, text: str) -> None:
    for call in (
        lambda: space.call("run_status", text, token="hf_c"),
        lambda: space.call("stop_run", text, token="hf_c"),
        lambda: space.call("inspect", text, token="hf_c"),
        lambda: space.call("inspect", f"{space.home}/uploads/{text}", token="hf_c"),
        lambda: space.call("start_run", {"data": text}, token="hf_c"),
        lambda: space.call("start_run", {"model": text}, token="hf_c"),
        lambda: space.call("compare", text, ["Hi"], token="hf_c"),
        lambda: space.call("compare", f"{text}/checkpoint-1", ["Hi"], token="hf_c"),
        lambda: space.call("score", text, token="hf_c"),
        lambda: space.call("upload", text, "a", token="hf_c"),
    ):
        with pytest.raises(Refused) as caught:
            call()
        told = str(caught.value)
        assert told != "None" and "root:" not in told and "unexpected" not in told


def test_recent_files_are_listed_at_home_alone(home: Path) -> None:
    kept = [keep_upload(f"{name}.csv", name.encode(), home) for name in ("first", "second")]
    os.utime(kept[0], (1e9, 1e9))
    assert PageContext(home).uploads.recent(9) == kept[::-1]
    assert PageContext(home).uploads.recent(1) == kept[1:]
    assert PageContext(home, SPACE).uploads.recent(9) == []


def test_pasted_text_may_be_as_large_as_a_file(home: Path) -> None:
    limits = replace(SPACE.limits, upload_mb=1)
    uploads = PageContext(home, replace(SPACE, limits=limits)).uploads
    assert uploads.keep_written("pasted.tsv", b"x" * 2**20).is_file()
    with pytest.raises(AccessError, match="pasted.tsv is 2 MB, but files here can be at most 1 MB"):
        uploads.keep_written("pasted.tsv", b"x" * 2**21)


def test_uploaded_names_stay_inside_the_uploads(space: Space) -> None:
    kept = Path(space.call("upload", "../../../evil.jsonl", "{}\n"))
    assert kept.is_relative_to(space.home / "uploads") and kept.name == "evil.jsonl"
    files = {"files": ("../../../evil2.jsonl", b"{}", "application/jsonl")}
    (path,) = httpx2.post(f"{space.url}/gradio_api/upload", files=files).json()
    assert ".." not in path and Path(path).name == "evil2.jsonl"
    assert list(space.home.parent.glob("evil*")) == []


def test_the_server_gives_no_file_of_the_home(space: Space) -> None:
    (run,) = (space.home / "runs").iterdir()
    for path in (run / "settings.json", run / "data" / "train.jsonl", space.home / "app.log", Path("/etc/passwd")):
        for address in (f"/gradio_api/file={path}", f"/file={path}", f"/gradio_api/file={path.parent}/../{path.name}"):
            answer = httpx2.get(space.url + address)
            assert answer.status_code in (403, 404), address
            assert "4711" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.txt", "data.json", "data.tsv"])
def test_a_pickle_by_another_name_is_only_bad_data(space: Space, name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(Exploit(mark)).decode("latin-1")
    data = space.call("upload", name, content)
    try:
        told = space.call("inspect", data)
        assert told["conversations"] <= 1  # a text file is a text, whatever it says
    except Refused as refused:
        assert "no usable conversation" in str(refused) or name in str(refused)
    assert not mark.exists()


def test_a_pickle_that_calls_itself_parquet_or_gzip_is_told(tmp_path: Path) -> None:
    from sft_app.data.reading import load_data, open_data
    from sft_app.errors import DataError

    mark = tmp_path / "mark"
    for name in ("data.parquet", "data.jsonl.gz"):
        (tmp_path / name).write_bytes(pickle.dumps(Exploit(mark)))
        with pytest.raises(DataError, match=name):
            load_data(open_data(parse_settings({"data": str(tmp_path / name)}).reading(), tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize("file", ["adapter_model.bin", "adapter_model.safetensors", "adapter_model.pt"])
def test_an_adapter_with_a_pickle_is_not_opened(tiny_model_dir: Path, cli: Any, tmp_path: Path, file: str) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_model_dir), "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / file).write_bytes(pickle.dumps(Exploit(mark)))
    ended = cli("compare", folder, "--prompt", "Hi")
    assert ended.status == 1 and ended.err.count("\n") == 1
    assert "safetensors" in ended.err or "does not fit this base model" in ended.err
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("https://example.org/data.jsonl", "Upload the file"),
        ("file:///etc/passwd", "Upload the file"),
        ("../../data", "Upload the file"),
        ("/etc", "Upload the file"),
        ("json", "Upload the file"),
        ("C:\\data", "Upload the file"),
    ],
)
def test_a_data_set_s_id_is_an_id(space: Space, name: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        space.call("inspect", name, token="hf_a")


def test_a_huge_prompt_is_refused_before_a_model_is_loaded(space: Space) -> None:
    with pytest.raises(Refused, match="has 5,000,000 characters, but the limit here is 4,000"):
        space.call("compare", "alice/adapter", ["x" * 5_000_000])


def test_an_oversized_upload_is_refused(space: Space) -> None:
    with pytest.raises(Refused, match="The file is larger than 20 MB"):
        space.call("upload", "large.jsonl", "x" * (20 * 2**20 + 1))
    files = {"files": ("large.jsonl", b"x" * (201 * 2**20), "application/jsonl")}
    answer = httpx2.post(f"{space.url}/gradio_api/upload", files=files, timeout=120)
    assert answer.status_code == 413


@pytest.mark.parametrize("name", ["small.parquet", "small.PARQUET", "small.parquet.gz", "small.zip"])
def test_a_visitor_brings_no_parquet(name: str, home: Path) -> None:
    """Whose values can stand in the file once and in every row, and which may be packed."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(home / name, "w") as archive:
            archive.writestr("small.parquet", b"PAR1")
    else:
        (home / name).write_bytes(gzip.compress(b"PAR1") if name.endswith(".gz") else b"PAR1")
    with pytest.raises(AccessError, match="Upload JSONL or CSV instead"):
        PageContext(home, SPACE).uploads.check(home / name)
    PageContext(home).uploads.check(home / name)


def test_the_name_of_an_upload_cannot_be_told_from_its_contents(home: Path, tmp_path: Path) -> None:
    """Whose hash stands in model cards."""
    kept = keep_upload("a.jsonl", b"rows", home)
    assert kept == keep_upload("a.jsonl", b"rows", home)
    assert hashlib.sha256(b"rows").hexdigest()[:16] not in str(kept)
    (tmp_path / "other").mkdir()
    assert kept.parent.name != keep_upload("a.jsonl", b"rows", tmp_path / "other").parent.name


def test_a_check_up_of_the_owner_is_not_shown_to_a_visitor(home: Path) -> None:
    context, settings = PageContext(home, SPACE), RunSettings(data="alice/private")
    context.checkup._last = (context.checkup.key(settings), "the owner's")  # type: ignore[assignment]
    with pytest.raises(AccessError, match="can fetch datasets"):
        context.checkup.inspect("page", settings, lambda share: None)


def test_a_cleaned_copy_on_a_space_has_a_name_that_nobody_guesses(home: Path) -> None:
    first, second = (PageContext(home, SPACE).uploads.cleaned_folder() for _ in range(2))
    assert first != second and first.parent == home / "cleaned"
    assert PageContext(home).uploads.cleaned_folder() == home / "cleaned"


def test_tokens_stay_out_of_the_log_and_of_messages(tmp_path: Path) -> None:
    import gradio as gr

    from sft_app.errors import ModelError
    from sft_app.ui.events import with_error_messages
    from sft_app.ui.page import _WithoutTokens

    @with_error_messages
    def handler() -> None:
        raise ModelError("Authorization: Bearer hf_abcdefghijklmnop was refused.")

    with pytest.raises(gr.Error, match="Bearer hf_… was refused"):
        handler()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "with hf_abcdefghijklmnop in it", None, None)
    assert "hf_abc" not in _WithoutTokens().format(record)


@pytest.mark.usefixtures("one_thread")
def test_a_prompt_full_of_html_is_shown_as_text(finished_run: Any, server: Any, quiet_page: Page) -> None:
    """In both panes, the views of them, and the file that the report is."""
    from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
    from sft_app.export.report import write_report

    add_pairs(finished_run, [AnswerPair(prompt=SCRIPT, base=SCRIPT, tuned=SCRIPT + " and more", reference=SCRIPT)])
    page = quiet_page
    page.goto(server.url)
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#prompt textarea").fill(SCRIPT)
    page.locator("#ask").click()
    expect(page.locator("#evidence")).to_contain_text("module", timeout=60_000)
    for view in ("Differences", "Raw text"):
        page.get_by_text(view, exact=True).click()
    page.get_by_role("tab", name="Blind test").click()
    page.locator("#voter textarea, #voter input").first.fill(SCRIPT)
    page.locator("#start-blind").click()
    expect(page.locator("#blind-test")).to_contain_text("window.caught = 1", timeout=30_000)
    assert page.evaluate("window.caught") is None
    (report, _) = write_report(finished_run, server.home / "report")
    page.goto(f"file://{report}")
    expect(page.locator("body")).to_contain_text("window.caught = 1")
    assert page.evaluate("window.caught") is None
