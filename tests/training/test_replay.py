"""General conversations among the examples: the base model's own answers, counted, kept, or left out with a reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import Example
from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE, rehearsed_note
from sft_app.models.loading import load_tokenizer
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, write_jsonl_atomically
from sft_app.settings import parse_settings, replay_obstacle, replayed_conversations
from sft_app.settings.recipe import MOST_REPLAYED, REPLAY_PROMPTS
from sft_app.training.launch import NO_REPLAY_OF_TEXT
from sft_app.training.preflight.plan import Machine
from sft_app.training.replay.answers import FEW_FIT, FEW_USABLE, answer_as_base
from sft_app.training.replay.prompts import prompts_for, replay_prompts
from sft_app.training.replay.rows import NO_ANSWERS, NO_MEMORY, NOT_REPLAYED, kept_answers
from sft_app.ui.train.preflight_views import preflight_facts
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
    prompts = [prompt.text for prompt in replay_prompts()]
    asked = {row["messages"][0]["content"].casefold() for row in iterate_jsonl(GENERAL_QUESTIONS_FILE)}
    assert len(prompts) == len(set(prompts)) == REPLAY_PROMPTS
    assert not asked & {prompt.casefold() for prompt in prompts}


@pytest.mark.parametrize("name", ["block_size", "format", "fsdp", "chat_template", "enable_thinking"])
def test_where_the_answers_would_mean_nothing_none_is_planned(name: str) -> None:
    value = {"block_size": 16, "format": "text", "fsdp": "full_shard", "chat_template": "chatml"}.get(name, True)
    settings = parse_settings({"replay": 0.2}).model_copy(update={name: value})
    assert replay_obstacle(settings) and replayed_conversations(settings, 100) == 0


def test_the_answers_are_those_of_the_base_whatever_the_adapter_does(talking_model_dir: Path) -> None:
    """Compared with `generate` of a model that has never had an adapter."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(talking_model_dir)
    plain, adapted = (AutoModelForCausalLM.from_pretrained(talking_model_dir) for _ in range(2))
    adapted = get_peft_model(adapted, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    prompts = replay_prompts()[:24]
    rows, why_not = answer_as_base(adapted.train(), tokenizer, prompts, 8, 512)
    assert len(rows) == 8 and not why_not and adapted.training
    for row in rows:
        question, answer = (message["content"] for message in row["messages"])
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        whole = plain.generate(**ids, do_sample=False, max_new_tokens=9, eos_token_id=tokenizer.eos_token_id)
        assert tokenizer.decode(whole[0, ids["input_ids"].shape[1] :], skip_special_tokens=True) == answer


def test_what_should_be_refused_is_not_rehearsed(talking_model_dir: Path) -> None:
    """The tiny model answers everything with the same word, which is no refusal."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(talking_model_dir) for kind in (AutoModelForCausalLM, AutoTokenizer))
    rows, _ = answer_as_base(model, tokenizer, replay_prompts()[:16], 16, 512)
    assert len(rows) == 14 and "refusing" not in {row["kind"] for row in rows}


def test_an_answer_that_would_be_trained_with_other_tokens_is_left_out(talking_model_dir: Path) -> None:
    """A template that changes what the model wrote, here its capitals."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(talking_model_dir) for kind in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.chat_template = tokenizer.chat_template.replace("message['content']", "(message['content'] | lower)")
    lower = [prompt for prompt in replay_prompts() if prompt.text == prompt.text.lower()][:8]
    assert answer_as_base(model, tokenizer, lower, 8, 512) == ([], FEW_FIT)


def test_a_run_says_how_many_it_mixed_in(talking_run: Make, work: Work) -> None:
    run = talking_run()
    assert work(run) == 0, run.status()
    added = replayed_conversations(run.record().settings, OWN)
    assert f"{added} general conversations were mixed into your {OWN} in each pass" in run.status().message
    assert len(turns(run.replay_file)) == added


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_a_pass_has_as_many_steps_as_are_planned(talking_run: Make, work: Work, replay: float) -> None:
    run = talking_run(replay=replay, max_steps=-1, num_train_epochs=1, gradient_accumulation_steps=1)
    settings = run.record().settings
    rows = [Example(row["row"], make_conversation(row["messages"])) for row in iterate_jsonl(run.train_file)]
    lengths = measure_lengths(load_tokenizer(Machine(run.home).model(settings), run.home), rows, None, 24)
    planned = Machine(run.home).preflight(settings, lengths, 0)
    assert work(run) == 0, run.status()
    assert (planned.steps, planned.replayed) == (run.status().step, OWN if replay else 0)
    assert run.status().step == (2 * OWN if replay else OWN) // 4
    assert ("Replay" in dict(preflight_facts(planned))) == bool(replay)


def test_a_resumed_run_replays_the_same_without_asking_again(talking_run: Make, work: Work) -> None:
    run = talking_run(max_steps=4, eval_steps=1)
    assert work(run) == 0, run.status()
    losses = {row.step: row.loss for row in run.metrics() if row.loss is not None}
    written = run.replay_file.read_text()
    marked = written.replace('"kind": "facts"', '"kind": "marked"', 1)
    assert marked != written
    for kept, expected in [(marked, marked), (written[: len(written) // 2], written), ("", written)]:
        run.replay_file.write_text(kept)  # as it was, cut off, and emptied
        shutil.rmtree(run.adapter_dir)
        for checkpoint in run.checkpoints_dir.glob("checkpoint-*"):
            if int(checkpoint.name.rpartition("-")[2]) > 3:
                shutil.rmtree(checkpoint)
        run.update_status(state="queued", message="")
        assert work(run) == 0, run.status()
        assert run.replay_file.read_text() == expected
        assert {row.step: row.loss for row in run.metrics() if row.loss is not None} == pytest.approx(losses, abs=1e-4)


def test_a_file_of_text_is_not_mixed_with_answers(talking_run: Make, work: Work, home: Path) -> None:
    """Its layout is detected, not set."""
    (home / "book.txt").write_text("\n\n".join(f"Chapter {number} tells of a ship at sea." for number in range(30)))
    run = talking_run(data=str(home / "book.txt"))
    assert run.record().settings.replay == 0 and NO_REPLAY_OF_TEXT in run.record().source.notes
    assert work(run) == 0, run.status()
    assert not run.replay_file.exists()


def test_an_answer_with_a_line_separator_is_read_as_it_was_written(talking_run: Make) -> None:
    run = talking_run()
    messages = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "One\u2028two\u0085"}]
    write_jsonl_atomically(run.replay_file, [{"kind": "facts", "messages": messages}])
    assert kept_answers(run) == ([{"kind": "facts", "messages": messages}], "")


def test_no_answer_is_repeated_more_than_four_times(
    talking_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_app.training.replay.answers.LEAST_DIFFERENT", 1)
    run = talking_run(replay=0.5, max_length=40)  # only the shortest answers fit
    assert work(run) == 0, run.status()
    different = len(turns(run.replay_file))
    assert 0 < 4 * different < OWN
    assert f"{4 * different} general conversations ({different} different) were" in run.status().message


def test_another_template_gets_none_and_says_why(talking_run: Make, work: Work) -> None:
    run = talking_run(chat_template="chatml")
    assert work(run) == 0, run.status()
    assert f"{NOT_REPLAYED}, because the chat template is not the base model's own." in run.status().message
    assert not run.replay_file.exists()


def test_answers_that_do_not_fit_are_not_cut(talking_run: Make, work: Work) -> None:
    run = talking_run(max_length=40)
    assert work(run) == 0, run.status()
    assert f"{NOT_REPLAYED}, because {FEW_FIT}." in run.status().message


def test_a_base_that_babbles_is_not_replayed(make_run: Make, work: Work) -> None:
    run = make_run(replay=0.25, max_steps=2)
    assert work(run) == 0, run.status()
    assert f"{NOT_REPLAYED}, because {FEW_USABLE}." in run.status().message and run.status().step == 2


@pytest.mark.parametrize(("error", "reason"), [(MemoryError, NO_MEMORY), (NotImplementedError, NO_ANSWERS)])
def test_an_error_costs_only_the_replay(
    talking_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch, error: type[Exception], reason: str
) -> None:
    def run_out(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("sft_app.training.replay.answers.answer_prompts", run_out)
    run = talking_run()
    assert work(run) == 0, run.status()
    assert f"{NOT_REPLAYED}, because {reason}. So a pass is shorter" in run.status().message and run.has_adapter()


def test_what_the_run_asks_elsewhere_is_not_rehearsed(talking_run: Make, tmp_path: Path) -> None:
    """Its general questions, its tests, and what it trains on or holds out."""
    first = [prompt.text for prompt in replay_prompts()[:4]]
    questions, tests, data = (tmp_path / name for name in ("questions.jsonl", "tests.yaml", "examples.jsonl"))
    rows = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}] for text in first]
    questions.write_text(json.dumps({"messages": rows[0]}).replace(first[0], first[0].upper()) + "\n")
    tests.write_text(json.dumps({"tests": [{"prompt": first[1], "checks": [{"contains": "Yes"}]}]}))
    own = [rows[2], rows[3], *([{"role": "user", "content": f"Is it {n}?"}, rows[0][1]] for n in range(24))]
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in own))
    run = talking_run(data=str(data), tests=str(tests), general_questions=str(questions))
    asked = {prompt.text for prompt in prompts_for(run)}
    assert len(asked) == REPLAY_PROMPTS - 4 and not asked & set(first)


def test_rehearsed_questions_of_a_later_file_are_named(talking_run: Make, work: Work, tmp_path: Path) -> None:
    run = talking_run()
    assert work(run) == 0, run.status()
    asked = turns(run.replay_file)[0][0]
    later = tmp_path / "later.jsonl"
    rows = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}] for text in (asked, "Is it?")]
    later.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    assert rehearsed_note(run, later).startswith("1 general question was rehearsed during training")
    assert rehearsed_note(run, GENERAL_QUESTIONS_FILE) == ""
