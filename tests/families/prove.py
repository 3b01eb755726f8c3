"""Find out what this app makes of a family, by its own functions, and whether it is what the libraries make of it.

A family passes without `problems`: the run's step is that of its conversations one by one, the held-out loss is that of
the plain model, both sides answer as each does alone, and what is exported opens in plain PEFT and transformers. What
the app does more slowly, or refuses in a sentence, is not a problem; a difference or a raw error is.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, TrainerCallback

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import render_conversation, render_prompt, stop_ids, training_rows
from sft_app.errors import AppError
from sft_app.export.merge_worker import merge
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.models.catalog import resolve_model
from sft_app.models.layers import leaf_name
from sft_app.models.loading import model_class
from sft_app.models.shapes import read_shape
from sft_app.runs.folder import Run
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.launch import create_queued_run
from sft_app.training.trainable import load_trainable
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer
from tests.conftest import CHATML, make_character_tokenizer
from tests.families.table import tiny_model
from tests.training.conftest import work_here

QUESTIONS = ("Where is order 3?", "Hi", "Is it very, very, very late, and why has nobody written to me?")
ANSWERS = ("Soon!", "It is on its way.", "No", "Yes, on Monday.")
SMALL: dict[str, Any] = {
    "method": "lora",
    "dtype": "float32",
    "max_steps": 2,
    "eval_steps": 2,
    "max_length": 128,
    "lora_r": 4,
    "learning_rate": 1e-2,
    "max_grad_norm": 100.0,
    "heldout_min": 4,
    "heldout_max": 4,
    "watch_prompts": ("Where is it?",),
    "max_new_tokens": 6,
    "general_prompts": 2,
    "scorecard_prompts": 2,
    "replay": 0,
}
STEP_TOLERANCE, LOGIT_TOLERANCE, MERGED_TOLERANCE = 1e-3, 1e-3, 0.1
NEW_TOKENS = 8


@dataclass
class Finding:
    """What the app makes of a family. `refused` is its sentence, if it does not take the family."""

    family: str
    trained: str = ""
    layout: str = ""
    notice: str = ""
    answers: str = ""
    in_4bit: str = ""
    refused: str = ""
    problems: list[str] = field(default_factory=list)


def prove(family: str, home: Path) -> Finding:
    """Take a tiny model of the family through training, comparing and exporting."""
    finding = Finding(family)
    folder = save_tiny(family, home / "model")
    data = write_conversations(home / "examples.jsonl")
    settings = parse_settings({**SMALL, "model": str(folder), "data": str(data)})
    run = _try(finding, "submit", lambda: create_queued_run(settings, home))
    if run is None:
        return finding
    for name, part in (("training", _train), ("gradients", _check_step), ("sizes", _check_shape)):
        _try(finding, name, lambda part=part: part(finding, run))
        if finding.refused:
            return finding
    if run.has_adapter():
        for name, part in (("held-out", _check_heldout), ("answers", _check_answers), ("export", _check_exports)):
            _try(finding, name, lambda part=part: part(finding, run))
    _check_4bit(finding, settings, home)
    return finding


def save_tiny(family: str, folder: Path) -> Path:
    """The tiny model with a tokenizer of one token a character."""
    tokenizer = make_character_tokenizer(CHATML)
    tiny_model(family).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_conversations(file: Path) -> Path:
    rows = [
        [
            {"role": "user", "content": f"{QUESTIONS[i % 3]} {i}"},
            {"role": "assistant", "content": f"{ANSWERS[i % 4]} {i}"},
        ]
        for i in range(24)
    ]
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return file


def _try(finding: Finding, name: str, part: Callable[[], Any]) -> Any:
    """A sentence of the app is a refusal; anything else that is raised is a problem."""
    try:
        return part()
    except AppError as error:
        if name in ("submit", "training"):
            finding.refused = str(error)
        else:
            finding.problems.append(f"{name}: {error}")
    except Exception as error:  # whatever it is, it is what a person would have seen
        logging.debug("%s", traceback.format_exc())
        finding.problems.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[:1]}")
    return None


def _train(finding: Finding, run: Run) -> None:
    assert work_here(run) == 0
    status = run.status()
    if status.state != "finished":
        if "unexpected" in status.message:
            raise RuntimeError(f"{status.message} {run.log_tail()[-400:]}")
        finding.refused = status.message


class _Step(TrainerCallback):  # type: ignore[misc]
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        self.gradients = {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone() for name, weight in trained
        }


def _check_step(finding: Finding, run: Run) -> None:
    """The gradients of a packed step of four conversations against those of the library's own forward, one by one."""
    tokenizer = _tokenizer(run)
    settings = run.record().settings.model_copy(
        update={"max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "warmup_ratio": 0}
    )
    rows = [
        render_conversation(
            tokenizer,
            make_conversation([{"role": "user", "content": q}, {"role": "assistant", "content": a}]),
            128,
        )
        for q, a in zip((*QUESTIONS, "Why?"), ANSWERS, strict=True)
    ]
    model, step = _with_effect(load_trainable(run, settings)), _Step()
    plain = _with_effect(load_trainable(run, settings)).train()
    job = TrainingJob(
        model, tokenizer, Dataset.from_list(training_rows(rows)), rows[:1], settings, run.path / "out", [step]
    )
    trainer = build_trainer(job)
    trainer.args.eval_on_start = False
    trainer.train()
    _plain_step(plain, rows)
    expected = {name: weight.grad for name, weight in plain.named_parameters() if weight.grad is not None}
    whole = sum(float(gradient.square().sum()) for gradient in expected.values()) ** 0.5
    clipped = min(1.0, settings.max_grad_norm / whole)
    apart = sum(float((step.gradients[n] - clipped * g).square().sum()) for n, g in expected.items()) ** 0.5
    if not apart <= STEP_TOLERANCE * clipped * whole:
        finding.problems.append(f"gradients differ by {apart / whole:.1e} of their norm ({trainer.plan})")
    finding.layout = trainer.plan.layout
    finding.notice = trainer.notice
    wrapped = (name.split(".lora_")[0] for name in step.gradients if ".lora_" in name)
    idle = sorted(name for name, gradient in step.gradients.items() if not gradient.any())
    if idle:
        finding.problems.append(f"{len(idle)} adapted weights get no gradient, {idle[0]} among them")
    names = {leaf_name(name.removesuffix(".base_layer")) for name in wrapped}
    finding.trained = ", ".join(sorted(names))


def _with_effect(model: Any) -> Any:
    torch.manual_seed(1)
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def _plain_step(model: Any, rows: list[Any]) -> None:
    """The textbook's gradients: the sum of the losses of all trained tokens, over their number."""
    trained = sum(row.trained for row in rows)
    for row in rows:
        item = row.as_training_row()
        logits = model(input_ids=torch.tensor([item["input_ids"]]), use_cache=False).logits[0].float()
        labels = torch.tensor(item["labels"][1:])
        loss = torch.nn.functional.cross_entropy(logits[:-1], labels, reduction="sum", ignore_index=-100)
        (loss / trained).backward()


def _check_shape(finding: Finding, run: Run) -> None:
    settings = run.record().settings
    shape, model = read_shape(resolve_model(settings.model, None, run.home), run.home), load_trainable(run, settings)
    counted = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    if shape.trainable(settings) != counted:
        finding.problems.append(f"preflight counts {shape.trainable(settings)} trained weights, {counted} are")


def _tokenizer(run: Run) -> Any:
    """As transformers opens it, which for some families is a class of their own with other rules."""
    return AutoTokenizer.from_pretrained(run.record().settings.model)


def open_plain(folder: Path) -> Any:
    """The model as its card tells people to load it."""
    return model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=torch.float32).eval()


def _plain_tuned(run: Run) -> Any:
    base = open_plain(Path(run.record().settings.model))
    return PeftModel.from_pretrained(base, run.adapter_dir).eval()


@torch.no_grad()
def _check_heldout(finding: Finding, run: Run) -> None:
    tokenizer, model = _tokenizer(run), _plain_tuned(run)
    total = tokens = 0.0
    for line in run.heldout_file.read_text().splitlines():
        row = render_conversation(tokenizer, make_conversation(json.loads(line)["messages"]), 128).as_training_row()
        logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0].float()
        labels = torch.tensor(row["labels"][1:])
        total += float(torch.nn.functional.cross_entropy(logits[:-1], labels, reduction="sum", ignore_index=-100))
        tokens += int((labels != -100).sum())
    found = run.scorecard().tuned["loss"]
    if abs(found - total / tokens) > LOGIT_TOLERANCE * (total / tokens):
        finding.problems.append(f"held-out loss {found:.5f} instead of {total / tokens:.5f}")


@torch.no_grad()
def _check_answers(finding: Finding, run: Run) -> None:
    """Greedy answers of both sides to a short prompt and one longer than the window, against each model read anew."""
    pair = load_pair(find_sides("base", run.id, run.home), run.home)
    base = open_plain(Path(run.record().settings.model))
    for prompt in QUESTIONS:
        update = compare_prompt(pair, prompt, "", Sampling(max_new_tokens=NEW_TOKENS))
        finding.answers = update.evidence.how
        ids, stops = render_prompt(pair.tokenizer, [{"role": "user", "content": prompt}]), stop_ids(pair.tokenizer)
        _expect_greedy(finding, "base", base, ids, update.left.ids, stops)
    tuned = _plain_tuned(run)
    for prompt in QUESTIONS:
        update = compare_prompt(pair, prompt, "", Sampling(max_new_tokens=NEW_TOKENS))
        ids = render_prompt(pair.tokenizer, [{"role": "user", "content": prompt}])
        _expect_greedy(finding, "fine-tuned", tuned, ids, update.right.ids, stop_ids(pair.tokenizer))
    _check_batch(finding, pair, tuned)


def _expect_greedy(
    finding: Finding, side: str, model: Any, prompt: list[int], answer: tuple[int, ...], stops: frozenset[int]
) -> None:
    """Each token of the answer is the most likely one, or as likely up to rounding, for the whole text read anew."""
    read = list(prompt)
    for id in answer:
        logits = model(input_ids=torch.tensor([read]), use_cache=False).logits[0, -1].float()
        if logits.max() - logits[id] > LOGIT_TOLERANCE * logits.std():
            finding.problems.append(f"the {side} side answers {id}, most likely is {int(logits.argmax())}")
            return
        read.append(id)
    if len(answer) < NEW_TOKENS and answer[-1] not in stops:
        finding.problems.append(f"the {side} side ended without an end")


def _check_batch(finding: Finding, pair: LoadedPair, tuned: Any) -> None:
    """Prompts of different lengths at once, as the scorecard's answers are made."""
    from sft_app.inference.generation import answer_prompts
    from sft_app.inference.pair import activate_side

    prompts = [render_prompt(pair.tokenizer, [{"role": "user", "content": text}]) for text in QUESTIONS]
    stops = stop_ids(pair.tokenizer)
    with activate_side(pair.loaded_sides[1], 1.0) as model:
        answers = answer_prompts(model, pair.tokenizer, prompts, Sampling(max_new_tokens=NEW_TOKENS), stops)
    for prompt, answer in zip(prompts, answers, strict=True):
        _expect_greedy(finding, "batched fine-tuned", tuned, prompt, answer.ids, stops)


@torch.no_grad()
def _check_exports(finding: Finding, run: Run) -> None:
    scratch = run.path / "scratch"
    scratch.mkdir()
    merge(run, scratch, 2, lambda share, what: None)
    tuned, merged = _plain_tuned(run), open_plain(scratch / "model")
    ids = torch.tensor([render_prompt(_tokenizer(run), [{"role": "user", "content": QUESTIONS[2]}])])
    one, other = (model(input_ids=ids, use_cache=False).logits.float() for model in (tuned, merged))
    if (one - other).norm() > MERGED_TOLERANCE * one.norm():  # the merged model is written in bfloat16
        finding.problems.append(f"the merged model's logits differ by {(one - other).norm() / one.norm():.1e}")


def _check_4bit(finding: Finding, settings: RunSettings, home: Path) -> None:
    four = settings.model_copy(update={"method": "qlora", "max_steps": 1, "eval_steps": 1})
    try:
        run = create_queued_run(four, home)
        assert work_here(run) == 0
        status = run.status()
    except AppError as error:
        finding.in_4bit = f"no: {error}"
        return
    except Exception as error:  # as above
        finding.problems.append(f"4-bit: {type(error).__name__}: {str(error).splitlines()[:1]}")
        return
    finding.in_4bit = "yes" if status.state == "finished" else f"no: {status.message}"
    if "unexpected" in status.message:
        finding.problems.append(f"4-bit: {status.message}")
