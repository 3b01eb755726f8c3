"""General conversations among the examples: the base model's own answers, counted, kept, or left out with a reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl
from sft_app.settings import parse_settings, replayed_conversations
from sft_app.settings.recipe import MOST_REPLAYED, REPLAY_PROMPTS
from sft_app.training.estimates.speed import REPLAY_TOKENS
from sft_app.training.replay import NOT_REPLAYED, replay_prompts
from tests.training.conftest import queue_run, work_here

Make = Callable[..., Run]
Work = Callable[..., int]
OWN = 20  # of queue_run's 24 conversations, 4 are held out


@pytest.fixture(scope="module")
def talking_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learned to answer everything with one word, and to end there."""
    home = tmp_path_factory.mktemp("talking")
    before = os.environ.get("SFT_APP_HOME")
    os.environ["SFT_APP_HOME"] = str(home)
    try:
        run = queue_run(home, tiny_model_dir, method="full", max_steps=40, learning_rate=5e-3, eval_steps=40)
        assert work_here(run) == 0, run.status()
    finally:
        os.environ.pop("SFT_APP_HOME") if before is None else os.environ.update(SFT_APP_HOME=before)
    return shutil.copytree(run.adapter_dir, tmp_path_factory.mktemp("models") / "talking")


@pytest.fixture
def talking_run(make_run: Make, talking_model_dir: Path) -> Make:
    return lambda **settings: make_run(model=talking_model_dir, **{"max_steps": 2, "replay": 0.25, **settings})


def turns(file: Path) -> list[tuple[str, str]]:
    return [tuple(message["content"] for message in row["messages"]) for row in iterate_jsonl(file)]


def test_the_share_is_of_all_conversations() -> None:
    assert [replayed_conversations(parse_settings({"replay": share}), 90) for share in (0, 0.1, 0.25, 0.5)] == [
        *(0, 10, 30, 90)
    ]
    assert replayed_conversations(parse_settings({"replay": 0.2}), 50_000) == MOST_REPLAYED
    assert replayed_conversations(parse_settings({"replay": 0.2, "chat_template": "chatml"}), 90) == 0


def test_the_prompts_judge_nothing_and_are_counted() -> None:
    """The general questions say what was lost, so none of them may be rehearsed."""
    prompts = replay_prompts()
    asked = {row["messages"][0]["content"].casefold() for row in iterate_jsonl(GENERAL_QUESTIONS_FILE)}
    assert len(prompts) == len(set(prompts)) == REPLAY_PROMPTS
    assert not asked & {prompt.casefold() for prompt in prompts}


def test_answers_are_those_of_the_base_model(talking_run: Make, work: Work, talking_model_dir: Path) -> None:
    """Compared with `generate` of a model that has never had an adapter."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = talking_run()
    assert work(run) == 0, run.status()
    model, tokenizer = (kind.from_pretrained(talking_model_dir) for kind in (AutoModelForCausalLM, AutoTokenizer))
    replayed = turns(run.replay_file)
    assert len(replayed) >= 8
    for question, answer in replayed:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        whole = model.generate(**ids, do_sample=False, max_new_tokens=REPLAY_TOKENS, eos_token_id=1 + 1)
        assert tokenizer.decode(whole[0, ids["input_ids"].shape[1] :], skip_special_tokens=True) == answer
    added = replayed_conversations(run.record().settings, OWN)
    assert f"Of {OWN + added} conversations per pass, {added} were general ones" in run.status().message


def test_a_pass_has_as_many_steps_as_are_planned(talking_run: Make, work: Work) -> None:
    """With replay at a half, twice as many; the estimate before the run says the same."""
    counted = []
    for replay in (0.0, 0.5):
        run = talking_run(replay=replay, max_steps=-1, num_train_epochs=1, gradient_accumulation_steps=1)
        assert work(run) == 0, run.status()
        counted.append(run.status().step)
        assert run.replay_file.exists() == (replay > 0)
    assert counted == [OWN // 4, 2 * OWN // 4]


def test_a_resumed_run_replays_the_same(talking_run: Make, work: Work) -> None:
    """The model is no longer the base then: it must not be asked again."""
    run = talking_run(max_steps=4, eval_steps=1)
    assert work(run) == 0, run.status()
    losses = {row.step: row.loss for row in run.metrics() if row.loss is not None}
    written = run.replay_file.read_text()
    shutil.rmtree(run.adapter_dir)
    for checkpoint in run.checkpoints_dir.glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > 3:
            shutil.rmtree(checkpoint)
    run.update_status(state="queued", message="")
    assert work(run) == 0, run.status()
    assert run.replay_file.read_text() == written
    again = {row.step: row.loss for row in run.metrics() if row.loss is not None}
    assert again == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"chat_template": "chatml"}, "the chat template is not the base model's own"),
        ({"trainer": "classic", "block_size": 16}, "the run learns running text"),
    ],
)
def test_where_the_answers_would_mean_nothing_none_is_replayed(
    talking_run: Make, work: Work, settings: dict[str, Any], reason: str
) -> None:
    run = talking_run(**settings)
    assert work(run) == 0, run.status()
    assert f"{NOT_REPLAYED}, because {reason}." in run.status().message and not run.replay_file.exists()


def test_a_base_that_babbles_is_not_replayed(make_run: Make, work: Work) -> None:
    run = make_run(replay=0.25, max_steps=2)
    assert work(run) == 0, run.status()
    assert "most answers of the base model did not end or repeated themselves" in run.status().message
    assert run.status().step == 2


def test_what_the_runs_own_general_questions_ask_is_not_rehearsed(
    talking_run: Make, work: Work, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": prompt.upper()}, {"role": "assistant", "content": "Yes."}]}
        for prompt in replay_prompts()[:3]
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = talking_run(general_questions=str(questions))
    assert work(run) == 0, run.status()
    asked = [question for question, _ in turns(run.replay_file)]
    assert asked and not {prompt.casefold() for prompt in replay_prompts()[:3]} & set(map(str.casefold, asked))
