"""What the tests share: a tiny random chat model on disk, run folders, and the real starter, fetched once."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Ended

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "True")  # as gradio spells it, which sets it too
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # a test's second thread would only take the core of the other test
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.warm.plugin"]
PROJECT = Path(__file__).resolve().parents[1]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n", "é", "£"]


def make_character_tokenizer(chat_template: str | None = CHATML, specials: list[str] | None = None) -> Any:
    """One token a character, so that expected ids can be written by hand: a special's id is its place, `ids(text)`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = SPECIALS + (specials or [])
    vocabulary = {token: id for id, token in enumerate([*names, "<unk>", *CHARACTERS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", *(specials or [])],
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: with one of them left at the end, the other process would have nothing to do."""
    items.sort(key=lambda item: not {"training", "ui"} & set(item.path.parts))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what fails as it fails: a run that is cut off prints no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stdout.write(f"\nFAILED {report.nodeid} ({report.when}): {str(report.longrepr).splitlines()[-1]}\n")


def pytest_collection_finish() -> None:
    """What collecting has imported stays: a collection that walks over all of it takes a second, and tests do many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_character_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with random, seeded weights, saved like any local model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = make_character_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a chat template, as base models come; `<|pad|>` is its EOS."""
    folder = tmp_path_factory.mktemp("models") / "base"
    shutil.copytree(tiny_model_dir, folder)
    tokenizer = make_character_tokenizer(chat_template=None)
    tokenizer.eos_token = "<|pad|>"
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny tensors a second thread only waits, and on cores that are shared it waits long; also for processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty app home, also for the processes that a test starts."""
    monkeypatch.setenv("SFT_APP_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], home: Path) -> Callable[..., Ended]:
    """Runs a command in this process."""
    from sft_app.cli import main

    def run(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(caught.value.code or 0), out, err)

    return run


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    return write_data(tmp_path)


def write_data(folder: Path) -> Path:
    """24 short conversations that a tiny model can learn something from."""
    path = folder / "examples.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"Where is order {i}?"}, {"role": "assistant", "content": "Soon!"}]}
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def starter_home() -> Path:
    """A home with the converted starter; shared by all tests and kept between test runs."""
    from sft_app.models.starter import prepare_starter

    kept = Path(os.environ.get("SFT_TEST_HOME") or PROJECT / "workspace")
    prepare_starter(kept)
    return kept


@pytest.fixture(scope="session")
def give_starter(starter_home: Path) -> Callable[[Path], None]:
    """Makes the converted starter that of another home too, so that a page opened there does not fetch it."""

    def give(home: Path) -> None:
        (home / "models").mkdir()
        (home / "models" / "starter").symlink_to(starter_home / "models" / "starter")

    return give
