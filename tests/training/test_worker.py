"""One run, end to end, on the tiny model: what stands in its folder afterwards, and how it ends otherwise."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft_app.runs.checkpoints import checkpoint_step, last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_jsonl_atomically
from sft_app.training import trainable
from sft_app.training.termination import OUT_OF_MEMORY_EXIT, TERMINATED_EXIT
from sft_app.training.trainers.arguments import training_dtype

Make = Callable[..., Run]
Work = Callable[..., int]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def steps_with(run: Run, key: str) -> list[int]:
    return [row.step for row in run.metrics() if getattr(row, key) is not None]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(5, 40)[None]).logits


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_every_method_and_trainer_runs_end_to_end(
    make_run: Make, work: Work, tiny_model_dir: Path, method: str, trainer: str
) -> None:
    before = digests(tiny_model_dir)
    run = make_run(method=method, trainer=trainer)
    assert work(run) == 0
    status = run.status()
    assert (status.state, status.message, status.step, status.total_steps) == ("finished", "", 4, 4)
    assert steps_with(run, "loss") == [1, 2, 3, 4]
    assert steps_with(run, "heldout_loss") == [0, 2, 4]
    assert [row.step for row in run.snapshots()] == [0, 2, 4]
    card = run.scorecard()
    assert card is not None
    losses = [row.heldout_loss for row in run.metrics() if row.heldout_loss is not None]
    assert card.base["loss"] == pytest.approx(losses[0])
    assert card.tuned["loss"] == pytest.approx(losses[-1])
    assert card.tuned["loss"] < card.base["loss"]
    assert digests(tiny_model_dir) == before


@pytest.mark.parametrize("method", ["lora", "full"])
def test_saved_folder_loads_with_plain_libraries_and_is_what_was_scored(
    make_run: Make, work: Work, tiny_model_dir: Path, method: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = make_run(method=method)
    work(run)
    if method == "full":
        model = AutoModelForCausalLM.from_pretrained(run.adapter_dir, dtype=torch.float32)
    else:
        base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, run.adapter_dir)
    tokenizer = AutoTokenizer.from_pretrained(run.adapter_dir)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_model_dir).chat_template
    assert tokenizer.eos_token_id == 2

    from sft_app.data.conversation import make_conversation
    from sft_app.data.tokens import render_conversation
    from sft_app.evaluation.scorecard import mean_loss, score_conversations
    from sft_app.runtime.files import read_jsonl

    rows = [make_conversation(row["messages"]) for row in read_jsonl(run.heldout_file)]
    loss = mean_loss(score_conversations(model, [render_conversation(tokenizer, row, 128) for row in rows]))
    card = run.scorecard()
    assert card is not None and loss == pytest.approx(card.tuned["loss"], abs=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_saved_folder_names_no_path_of_this_machine(
    make_run: Make, work: Work, tiny_model_dir: Path, method: str
) -> None:
    run = make_run(method=method, max_steps=1, watch_prompts=())
    work(run)
    texts = {path.name: path.read_bytes() for path in run.adapter_dir.rglob("*") if path.is_file()}
    roots = [str(path).encode() for path in (tiny_model_dir.parent, run.path.parents[2], Path.home())]
    assert [name for name, text in texts.items() if any(root in text for root in roots)] == []


def test_adapter_names_its_base_by_its_public_id(finished_run: Run) -> None:
    config = json.loads((finished_run.adapter_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["inference_mode"] is True


def test_adapter_folder_is_complete(finished_run: Run) -> None:
    names = {path.name for path in finished_run.adapter_dir.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert [path.name for path in finished_run.path.iterdir() if path.name.startswith(".")] == []


def test_base_side_of_the_scorecard_is_the_untouched_model(finished_run: Run, tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sft_app.data.conversation import make_conversation
    from sft_app.data.tokens import render_conversation
    from sft_app.evaluation.scorecard import mean_loss, score_conversations
    from sft_app.runtime.files import read_jsonl

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    rows = [make_conversation(row["messages"]) for row in read_jsonl(finished_run.heldout_file)]
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    scores = score_conversations(base, [render_conversation(tokenizer, row, 128) for row in rows])
    card = finished_run.scorecard()
    assert card is not None
    assert card.base["loss"] == pytest.approx(mean_loss(scores), abs=1e-5)
    tokens = sum(score.tokens for score in scores)
    assert card.heldout.as_record() == {"conversations": 4, "trained_tokens": tokens, "groups": 4}


def test_metrics_and_snapshots_carry_what_the_page_shows(finished_run: Run) -> None:
    steps = [row for row in finished_run.metrics() if row.loss is not None]
    keys = {"step", "elapsed_seconds", "loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gib"}
    assert all(row.model_fields_set == keys for row in steps)
    assert all(row.tokens_per_second > 0 and row.memory_gib > 0 and row.grad_norm > 0 for row in steps)
    assert [row.elapsed_seconds for row in steps] == sorted(row.elapsed_seconds for row in steps)
    for snapshot in finished_run.snapshots():
        assert [answer.prompt for answer in snapshot.answers] == ["Where is it?", "Hello"]
        assert all(set(answer.as_record()) == {"prompt", "answer", "finished"} for answer in snapshot.answers)


def test_first_snapshot_is_the_base_models_answer(finished_run: Run, tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Where is it?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    out = base.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert finished_run.snapshots()[0].answers[0].answer == tokenizer.decode(out, skip_special_tokens=True)


def test_4bit_run_trains_the_same_where_the_cpu_has_a_fast_path(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes is made to believe in AVX-512 bf16: after an evaluation its packed weights have no gradient."""
    plain, fast = make_run(method="qlora"), make_run(method="qlora")
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    work(plain)
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    work(fast)
    for key in ("loss", "heldout_loss", "grad_norm"):
        one, other = (
            [getattr(row, key) for row in run.metrics() if getattr(row, key) is not None] for run in (plain, fast)
        )
        assert one == pytest.approx(other, rel=1e-4) and len(one) >= 3


def test_run_without_watch_prompts_has_no_snapshots(make_run: Make, work: Work) -> None:
    run = make_run(watch_prompts=())
    work(run)
    assert (run.status().state, run.snapshots()) == ("finished", [])


def test_watch_prompts_leave_the_weights_and_the_random_state_alone(make_run: Make, work: Work) -> None:
    """The dropout of each step comes from a random state that an answer in between could have moved."""
    from safetensors.torch import load_file

    shared = {"lora_dropout": 0.3, "max_steps": 6, "eval_steps": 1.0, "temperature": 1.0}
    asked, alone = make_run(watch_prompts=("Where is it?", "Hello"), **shared), make_run(watch_prompts=(), **shared)
    work(asked)
    work(alone)
    assert len(asked.snapshots()) == 7
    losses, weights = (
        [load(run) for run in (asked, alone)]
        for load in (
            lambda run: [row.loss for row in run.metrics() if row.loss is not None],
            lambda run: load_file(run.adapter_dir / "adapter_model.safetensors"),
        )
    )
    assert losses[0] == losses[1]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_epochs_end_the_run_where_no_steps_are_given(make_run: Make, work: Work) -> None:
    run = make_run(max_steps=-1, num_train_epochs=1, eval_steps=0.5, packing=False, per_device_train_batch_size=5)
    work(run)
    assert (run.status().state, run.status().step) == ("finished", 4)  # 20 conversations, 5 at once
    assert steps_with(run, "heldout_loss") == [0, 2, 4]


def test_stop_keeps_the_adapter_and_its_scorecard(make_run: Make, work: Work) -> None:
    run = make_run(max_steps=50, eval_steps=10)
    run.request_stop()
    assert work(run) == 0
    status = run.status()
    assert (status.state, status.step, status.total_steps) == ("stopped", 1, 50)
    assert (run.adapter_dir / "adapter_model.safetensors").is_file()
    assert run.scorecard() is not None
    assert last_complete_checkpoint(run.checkpoints_dir) == run.checkpoints_dir / "checkpoint-1"
    assert [row.step for row in run.snapshots()] == [0, 1]


@pytest.fixture
def work_and_terminate(work: Work, wait_until: Callable[..., Any]) -> Callable[..., int]:
    """Works on a run until a condition holds, sends SIGTERM then, and gives the worker's exit status."""

    def work_and_terminate(run: Run, condition: Callable[[], Any]) -> int:
        def terminate() -> None:
            try:
                wait_until(condition)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until the worker sets its own
        sender = threading.Thread(target=terminate)
        sender.start()
        try:
            return work(run)
        finally:
            sender.join()
            signal.signal(signal.SIGTERM, before)

    return work_and_terminate


def assert_terminated(run: Run, code: int, step: int) -> None:
    status = run.status()
    assert (code, status.state) == (TERMINATED_EXIT, "interrupted")
    told = "The training process was told to stop (SIGTERM), usually because the machine is shutting down."
    assert status.message == told
    assert status.hint == f"Resume continues from step {step}."
    assert not run.has_adapter()


def test_terminate_signal_saves_a_checkpoint_and_leaves_the_run_to_be_resumed(
    make_run: Make, work_and_terminate: Callable[..., int]
) -> None:
    run = make_run(max_steps=5000, eval_steps=5000, watch_prompts=())
    code = work_and_terminate(run, lambda: len(steps_with(run, "loss")) >= 2)
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None and 2 <= checkpoint_step(checkpoint) < 5000
    assert_terminated(run, code, checkpoint_step(checkpoint))
    assert steps_with(run, "loss") == list(range(1, checkpoint_step(checkpoint) + 1))
    assert steps_with(run, "heldout_loss") == [0]


@pytest.mark.parametrize("at_step", [2, 4])
def test_terminate_signal_breaks_an_evaluation_off_and_keeps_what_was_learnt(
    make_run: Make,
    work: Work,
    work_and_terminate: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    at_step: int,
) -> None:
    """Also one after the last step, which is measured when the run is resumed."""
    from sft_app.training.trainers import heldout

    run, measure, begun = make_run(), heldout.score_conversations, threading.Event()
    begun_at: list[float] = []

    def measure_slowly(model: Any, conversations: Any) -> Any:
        if len(steps_with(run, "loss")) == at_step:
            begun_at.append(time.monotonic())
            begun.set()
            time.sleep(60)
        return measure(model, conversations)

    with monkeypatch.context() as patch:
        patch.setattr(heldout, "score_conversations", measure_slowly)
        code = work_and_terminate(run, begun.is_set)
    assert time.monotonic() - begun_at[0] < 30
    assert_terminated(run, code, at_step)
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 4)
    assert steps_with(run, "loss") == [1, 2, 3, 4]
    assert steps_with(run, "heldout_loss")[-1] == 4


def test_terminate_signal_ends_the_preparation_at_once(
    make_run: Make, work_and_terminate: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training import worker

    run, begun = make_run(), threading.Event()

    def load_slowly(*_: Any) -> None:
        begun.set()
        time.sleep(60)

    monkeypatch.setattr(worker, "load_trainable", load_slowly)
    started = time.monotonic()
    code = work_and_terminate(run, begun.is_set)
    assert time.monotonic() - started < 30
    assert_terminated(run, code, 0)


@pytest.mark.parametrize(("too_large", "precision"), [(False, "float16"), (True, "float32")])
def test_model_too_large_for_float16_computes_in_float32(
    make_run: Make,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    too_large: bool,
    precision: str,
) -> None:
    """As on a GPU without bfloat16, with a model whose numbers outgrow float16 in its second layer."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    with torch.no_grad():
        for layer in model.model.layers[0].mlp.children():
            if too_large and hasattr(layer, "weight"):
                layer.weight.mul_(1e4)
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(tmp_path / "model")
    run = make_run(model=tmp_path / "model", method="lora", lora_r=4)
    monkeypatch.setattr(trainable, "resolve_precision", lambda *_: "float16")
    loaded = trainable.load_trainable(run, run.record().settings, list(range(5, 25)))
    assert training_dtype(loaded) == getattr(torch, precision)
    assert (run.status().hint == trainable.OVERFLOW_HINT) == (run.status().precision == "float32") == too_large


def held_out_that_gets_worse(run: Run) -> Run:
    """What is learnt is no help for these answers: each evaluation is worse than the one before."""
    rows = [
        {"row": i, "messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "zq" * 20}]}
        for i in range(4)
    ]
    write_jsonl_atomically(run.heldout_file, rows)
    return run


def heldout_loss(run: Run, step: int) -> float:
    return next(row.heldout_loss for row in run.metrics() if row.heldout_loss is not None and row.step == step)


def best_step(run: Run) -> int:
    """Of those that were measured, and not the last one."""
    losses = {row.step: row.heldout_loss for row in run.metrics() if row.heldout_loss and row.step}
    best = min(losses, key=lambda step: losses[step])
    assert best < max(losses), "the test needs a run that gets worse"
    return best


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_best_weights_are_kept_saved_and_scored(make_run: Make, work: Work, method: str, trainer: str) -> None:
    from safetensors.torch import load_file

    run = held_out_that_gets_worse(make_run(max_steps=8, method=method, trainer=trainer, learning_rate=4e-2))
    assert work(run) == 0
    status, step = run.status(), best_step(run)
    assert (status.state, status.step, status.kept_step) == ("finished", 8, step)
    assert status.message == f"The weights from step {step} are kept, because the held-out loss was lowest there."
    assert {checkpoint_step(path) for path in run.checkpoints_dir.glob("checkpoint-*")} == {step, 6, 8}
    (best,) = (run.checkpoints_dir / f"checkpoint-{step}").glob("*.safetensors")
    saved, kept = load_file(best), load_file(run.adapter_dir / best.name)
    assert saved and all(torch.equal(saved[name], kept[name]) for name in saved)
    card = run.scorecard()
    assert card is not None and card.tuned["loss"] == pytest.approx(heldout_loss(run, step))


def test_last_weights_are_kept_where_the_best_are_not_wanted(make_run: Make, work: Work) -> None:
    run = held_out_that_gets_worse(make_run(load_best_model_at_end=False))
    assert work(run) == 0
    assert (run.status().kept_step, run.status().message) == (4, "")
    card = run.scorecard()
    assert card is not None and card.tuned["loss"] == pytest.approx(heldout_loss(run, 4))


def test_stopped_run_keeps_its_best_weights_too(
    make_run: Make, work: Work, failing_disk: Callable[[int], None]
) -> None:
    """Also when the best were measured before it was resumed."""
    run = held_out_that_gets_worse(make_run(max_steps=50, method="full", learning_rate=4e-2))
    failing_disk(5)
    work(run)
    failing_disk(0)
    run.request_stop()
    assert work(run) == 0
    step = best_step(run)
    assert (run.status().state, run.status().step, run.status().kept_step) == ("stopped", 5, step)
    assert run.status().message == f"The weights from step {step} are kept, because the held-out loss was lowest there."
    card = run.scorecard()
    assert card is not None and card.tuned["loss"] == pytest.approx(heldout_loss(run, step), abs=1e-5)


@pytest.mark.parametrize("breaks_off", [False, True])
def test_early_stopping_counts_measurements_without_a_better_one(
    make_run: Make, work: Work, failing_disk: Callable[[int], None], breaks_off: bool
) -> None:
    run = held_out_that_gets_worse(make_run(max_steps=50, early_stopping_patience=3, learning_rate=4e-2))
    if breaks_off:  # and what was counted before is still known afterwards
        failing_disk(7)
        work(run)
        assert run.status().state == "failed"
        failing_disk(0)
    assert work(run) == 0
    step, last = best_step(run), best_step(run) + 6
    assert (run.status().state, run.status().step, run.status().kept_step) == ("finished", last, step)
    assert run.status().message == (
        f"Stopped early at step {last}: 3 measurements in a row without a better held-out loss. "
        f"The weights from step {step} are kept, because the held-out loss was lowest there."
    )
    assert steps_with(run, "heldout_loss") == list(range(0, last + 1, 2))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([], 0), ([3.0], 0), ([3.0, 2.0], 0), ([2.0, 3.0, 2.5], 2), ([2.0, 2.0], 1), ([float("nan"), 2.0, 3.0], 1)],
)
def test_measurements_since_the_best_are_counted(losses: list[float], expected: int) -> None:
    from sft_app.training.callbacks import measurements_since_best

    history = [{"eval_loss": 1.0, "step": 0}, {"loss": 0.1, "step": 1}]
    history += [{"eval_loss": loss, "step": 2 + i} for i, loss in enumerate(losses)]
    assert measurements_since_best(history) == expected


def test_checkpoint_is_saved_when_its_time_has_come_without_an_evaluation(
    make_run: Make, work: Work, failing_disk: Callable[[int], None]
) -> None:
    run = make_run(max_steps=6, eval_steps=6, save_minutes=1e-6)
    failing_disk(5)
    work(run)
    assert sorted(checkpoint_step(path) for path in run.checkpoints_dir.glob("checkpoint-*")) == [3, 4]
    assert steps_with(run, "heldout_loss") == [0]
    failing_disk(0)
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 6)
    assert steps_with(run, "loss") == [1, 2, 3, 4, 5, 6]
    assert steps_with(run, "heldout_loss") == [0, 6]


def test_checkpoint_that_the_disk_has_no_room_for_is_left_out_and_told(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training import callbacks

    run, usage = make_run(max_steps=6, watch_prompts=()), namedtuple("usage", "total used free")
    run.update_status(hint="Told before.")
    hints: dict[int, str] = {}

    def disk_usage(_: Path) -> Any:
        step = len(steps_with(run, "loss")) + 1
        hints[step] = run.status().hint
        return usage(2**40, 0, 2**20 if step < 4 else 2**30)

    monkeypatch.setattr(callbacks.shutil, "disk_usage", disk_usage)
    assert work(run) == 0
    told = r"Told before\. No checkpoint was saved at step 2: it needs 3\d MiB more disk space\. Free up space\."
    assert hints[2] == "Told before." and re.fullmatch(told, hints[3])
    assert (run.status().state, run.status().hint) == ("finished", "Told before.")
    assert sorted(checkpoint_step(path) for path in run.checkpoints_dir.glob("checkpoint-*")) == [4, 6]


def test_what_was_told_before_training_is_still_told_at_its_end(make_run: Make, work: Work) -> None:
    run = make_run(watch_prompts=())
    run.update_status(hint="The micro-batch is smaller now.")
    work(run)
    assert (run.status().state, run.status().hint) == ("finished", "The micro-batch is smaller now.")


def test_resumed_run_goes_on_from_its_checkpoint_and_tells_nothing_twice(make_run: Make, work: Work) -> None:
    run = make_run(max_steps=6)
    run.request_stop()
    work(run)
    run.withdraw_stop()
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 6)
    assert steps_with(run, "loss") == [1, 2, 3, 4, 5, 6]
    assert steps_with(run, "heldout_loss") == [0, 1, 2, 4, 6]
    assert [row.step for row in run.snapshots()] == [0, 1, 2, 4, 6]
    base = [row.heldout_loss for row in run.metrics() if row.heldout_loss is not None][0]
    card = run.scorecard()
    assert card is not None and card.base["loss"] == pytest.approx(base)


def test_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(make_run: Make, work: Work) -> None:
    """Data order, optimizer and schedule go on where they were."""
    from safetensors.torch import load_file

    whole, stopped = make_run(lr_scheduler_type="constant"), make_run(lr_scheduler_type="constant")
    work(whole)
    stopped.request_stop()
    work(stopped)
    stopped.withdraw_stop()
    work(stopped)
    one, other = (load_file(run.adapter_dir / "adapter_model.safetensors") for run in (whole, stopped))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From a step on every metric fails to be written, until step 0 is given."""
    write = Run.log_metric

    def fail_from(step: int) -> None:
        def log_metric(self: Run, **values: Any) -> None:
            if step and values["step"] >= step:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(self, **values)

        monkeypatch.setattr(Run, "log_metric", log_metric)

    return fail_from


def test_run_that_broke_off_resumes_from_its_last_checkpoint(
    make_run: Make, work: Work, failing_disk: Callable[[int], None]
) -> None:
    run = make_run(max_steps=6)
    failing_disk(4)
    assert work(run) == 0
    assert (run.status().state, run.status().message) == (
        "failed",
        "The disk is full. Free up space and resume the run.",
    )
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None and checkpoint_step(checkpoint) == 2
    assert steps_with(run, "loss") == [1, 2, 3]
    failing_disk(0)
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 6)
    assert steps_with(run, "loss") == [1, 2, 3, 4, 5, 6]
    assert steps_with(run, "heldout_loss") == [0, 2, 4, 6]
    card = run.scorecard()
    assert card is not None and card.rows.better > 0


def test_run_that_broke_off_while_scoring_is_scored_when_it_is_resumed(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training import worker

    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "save_adapter", full_disk)
        work(run)
    assert run.status().state == "failed"
    assert work(run) == 0
    assert (run.status().state, run.status().message) == ("finished", "")
    assert steps_with(run, "loss") == [1, 2, 3, 4]
    assert run.has_adapter()
    assert run.scorecard() is not None


def test_resume_passes_over_a_half_written_checkpoint(make_run: Make, work: Work) -> None:
    run = make_run(max_steps=6)
    run.request_stop()
    work(run)
    run.withdraw_stop()
    (run.checkpoints_dir / "checkpoint-5").mkdir()
    (run.checkpoints_dir / "checkpoint-5" / "adapter_model.safetensors").write_bytes(b"half")
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 6)
    assert steps_with(run, "loss") == [1, 2, 3, 4, 5, 6]


def test_lack_of_gpu_memory_asks_to_be_started_again(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training import worker

    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(worker, "load_trainable", run_out)
    run = make_run()
    assert work(run) == OUT_OF_MEMORY_EXIT
    assert not run.status().has_ended()


def test_lack_of_memory_before_the_first_step_is_told_apart_from_one_in_a_step(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor starts a run again with a smaller micro-batch only in the second case."""
    from sft_app.training.trainers.heldout import HeldoutEvaluation

    def run_out(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    for part, state in (("evaluate", "preparing"), ("training_step", "training")):
        with monkeypatch.context() as patch:
            patch.setattr(HeldoutEvaluation, part, run_out)
            run = make_run()
            assert work(run) == OUT_OF_MEMORY_EXIT
            assert run.status().state == state


def test_micro_batch_given_to_the_worker_replaces_the_settings(make_run: Make, work: Work) -> None:
    run = make_run(per_device_train_batch_size=8, gradient_accumulation_steps=1, packing=False, max_steps=1)
    work(run, batch=4, accumulation=2)
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None
    assert json.loads((checkpoint / "trainer_state.json").read_text())["train_batch_size"] == 4
    assert run.record().settings.per_device_train_batch_size == 8


def test_answers_that_begin_beyond_max_length_fail_the_run_with_what_to_do(make_run: Make, work: Work) -> None:
    run = make_run(max_length=16)
    assert work(run) == 0
    assert run.status().state == "failed"
    assert run.status().message == "No answer in train.jsonl begins within max_length 16. Raise max_length."


def test_model_that_is_gone_fails_the_run_in_one_line(
    make_run: Make, work: Work, tiny_model_dir: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_model_dir, tmp_path / "gone")
    run = make_run(model=str(tmp_path / "gone"))
    shutil.rmtree(tmp_path / "gone")
    assert work(run) == 0
    status = run.status()
    assert status.state == "failed"
    assert str(tmp_path / "gone") in status.message
    assert "\n" not in status.message


def test_target_modules_that_do_not_exist_fail_the_run_by_name(make_run: Make, work: Work) -> None:
    run = make_run(lora_target_modules="no_such_proj")
    work(run)
    assert run.status().state == "failed"
    assert run.status().message.startswith("lora_target_modules 'no_such_proj': ")


def test_unexpected_error_is_one_line_and_the_log_has_the_rest(
    make_run: Make, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    write_jsonl_atomically(run.train_file, [{"no messages": 1}])
    assert work(run) == 0
    status = run.status()
    assert (status.state, status.hint) == ("failed", "The run's log has the details.")
    assert status.message == "Training stopped because of an unexpected error: KeyError: 'messages'"
    assert "Traceback" in capsys.readouterr().err


def test_worker_says_which_process_it_is(finished_run: Run) -> None:
    status = finished_run.status()
    assert status.pid == os.getpid()
    assert status.started_utc is not None and status.ended_utc is not None


def test_adapter_of_an_earlier_try_is_replaced_whole(make_run: Make, work: Work) -> None:
    run = make_run()
    run.adapter_dir.mkdir()
    (run.adapter_dir / "stale.txt").touch()
    work(run)
    assert not (run.adapter_dir / "stale.txt").exists()
    assert (run.adapter_dir / "adapter_model.safetensors").is_file()


def test_a_base_model_learns_chatml_and_its_adapter_carries_the_template(
    make_run: Make, work: Work, base_model_dir: Path
) -> None:
    from transformers import AutoTokenizer

    from sft_app.runs.summary import summarise_run

    run = make_run(model=base_model_dir, chat_template="chatml")
    assert work(run) == 0
    assert (run.status().state, run.status().message) == ("finished", "")
    tokenizer = AutoTokenizer.from_pretrained(run.adapter_dir)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert (asked, tokenizer.eos_token) == ("<|im_start|>user\nHi<|im_end|>\n", "<|im_end|>")
    assert summarise_run(run).chat_template == "ChatML"
    card = run.scorecard()
    assert card is not None and card.tuned["loss"] < card.base["loss"]


def test_a_base_model_is_trained_on_plain_text_and_continues_the_watch_prompts(
    make_run: Make, work: Work, base_model_dir: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"Order {number} will come soon."}) + "\n" for number in range(24)))
    run = make_run(model=base_model_dir, data=str(texts), format="text")
    assert work(run) == 0
    assert run.status().state == "finished", run.status()
    assert [row.step for row in run.snapshots()] == [0, 2, 4]


@pytest.mark.parametrize("takes_tools", [True, False])
def test_a_run_on_tool_calls_says_how_they_are_written(
    make_run: Make, work: Work, tmp_path: Path, takes_tools: bool
) -> None:
    from tests.data.test_tool_templates import AS_TEXT, CALL, RESULT, TOOL, USER

    data = tmp_path / "tools.jsonl"
    turns = [USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT, {"role": "assistant", "content": "Mild."}]
    data.write_text("".join(json.dumps({"messages": turns, "tools": [TOOL]}) + "\n" for _ in range(24)))
    run = make_run(data=str(data), max_steps=2, max_length=512, chat_template=AS_TEXT if takes_tools else "")
    assert work(run) == 0
    way = "written as the model's chat template" if takes_tools else "written as text (<tools> and <tool_call>)"
    assert (run.status().state, way in run.status().message) == ("finished", True), run.status()
