"""One run in a process of its own: load, train, score, save. Nothing here knows of the page.

Run as `python -m sft_app.training.worker RUN_DIR MICRO_BATCH ACCUMULATION`; everything else stands in the run folder.
"""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import sys
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import AppError, kind_and_first_line
from sft_app.evaluation.scorecard import RowScore, score_conversations
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import ADAPTER_NAME, attach_lora, keep_4bit_differentiable, load_base, load_tokenizer
from sft_app.models.starter import starter_is_ready
from sft_app.runs.checkpoints import checkpoint_step, discard_incomplete, last_complete_checkpoint
from sft_app.runs.folder import ADAPTER_DRAFTS, Run
from sft_app.runs.records import WatchAnswer
from sft_app.runtime.files import put_on_disk
from sft_app.settings import RunSettings
from sft_app.training import distributed
from sft_app.training.callbacks import RunReporter
from sft_app.training.divergence import discard_broken
from sft_app.training.open_settings import settle_max_length, settle_precision
from sft_app.training.optional_deps import place_tracker
from sft_app.training.scoring import complete_scorecard, keep_heldout_scores
from sft_app.training.supervisor import hand_over, tell_terminated
from sft_app.training.termination import (
    BUSY_EXIT,
    CANCELLED_EXIT,
    OUT_OF_MEMORY_EXIT,
    TERMINATED_EXIT,
    Cancelled,
    StopRequested,
    Terminated,
    Termination,
)
from sft_app.training.token_rows import render_rows, token_rows
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer

logger = logging.getLogger(__name__)
WATCH_MAX_NEW_TOKENS = 100
NOTHING_LEARNT = "Stopped before anything was learned: there is nothing to save."


def main(run_dir: str, micro_batch: str, accumulation: str) -> int:
    """The exit status: 0 when the run folder tells how it ended, `OUT_OF_MEMORY_EXIT` to be started again smaller,
    `TERMINATED_EXIT` when the machine asked for it, `BUSY_EXIT` when another worker has the run."""
    distributed.end_with_the_launcher()
    try:
        with distributed.holding(Run(Path(run_dir))) as is_ours:
            return _work(run_dir, micro_batch, accumulation) if is_ours else BUSY_EXIT
    except FileNotFoundError:
        if Path(run_dir).is_dir():
            raise
        return 0  # it has been deleted meanwhile


def _work(run_dir: str, micro_batch: str, accumulation: str) -> int:
    run, termination = distributed.as_this_rank_sees(Run(Path(run_dir))), Termination()
    signal.signal(signal.SIGTERM, termination)
    try:
        hand_over(run, distributed.leading_pid(), _preparing_message(run))
        distributed.join_ranks()
        smaller = {"per_device_train_batch_size": int(micro_batch), "gradient_accumulation_steps": int(accumulation)}
        with termination.watching(run) if distributed.is_first_rank() else nullcontext():
            train_run(run, run.record().settings.model_copy(update=smaller), termination)
    except StopRequested:
        run.update_status(state="stopped", message=NOTHING_LEARNT)
    except Cancelled:
        run.finish_cancel()
        return CANCELLED_EXIT if distributed.world_size() > 1 else 0  # the other ranks are ended for it
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not run.status().has_ended():  # it may have come when all was done
            checkpoint = last_complete_checkpoint(run.checkpoints_dir)
            tell_terminated(run, checkpoint_step(checkpoint) if checkpoint else 0)
        return TERMINATED_EXIT
    except torch.OutOfMemoryError:
        traceback.print_exc()
        return OUT_OF_MEMORY_EXIT
    except AppError as error:
        run.update_status(state="failed", message=str(error), **({"hint": error.hint} if error.hint else {}))
        return distributed.failure_exit(error)
    except Exception as error:  # the last place that can tell the reader; the traceback goes to the run's log
        traceback.print_exc()
        run.update_status(state="failed", message=_in_one_line(error), hint="The run's log has the details.")
        return distributed.failure_exit(error)
    return 0


def train_run(run: Run, settings: RunSettings, termination: Termination) -> None:
    """The whole job: train and save, then measure what was saved, in the memory that training has left.

    Raises:
        Terminated: what was learnt is in a checkpoint.
        StopRequested: nothing has been learnt yet.
    """
    trained = _train(run, settings, termination)
    told = trained.message
    if distributed.is_first_rank():
        prompts = 0 if trained.was_stopped else settings.scorecard_prompts
        told = " ".join(filter(None, [told, complete_scorecard(run, trained.scores, prompts, termination)]))
    state = "stopped" if trained.was_stopped else "finished"
    run.update_status(state=state, message=told, kept_step=trained.kept_step)
    if not trained.was_stopped and distributed.is_first_rank():
        shutil.rmtree(run.tokens_dir, ignore_errors=True)  # a stopped run may go on and needs them


@dataclass(frozen=True)
class Trained:
    """How training ended: the held-out scores of the weights that were kept, and what there is to say of it."""

    scores: list[RowScore]
    kept_step: int
    was_stopped: bool
    message: str


def _train(run: Run, settings: RunSettings, termination: Termination) -> Trained:
    """From the run folder to the saved adapter, in the order in which it happens. Raises: as `train_run`."""
    with distributed.first_rank_first():
        discard_incomplete(run.checkpoints_dir)
        discarded = discard_broken(run.checkpoints_dir)
    if discarded:
        logger.warning(discarded)
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    breaks_off = (
        checkpoint is None and distributed.world_size() == 1
    )  # what an earlier worker has learnt is kept by a stop
    with termination.stoppable() if breaks_off else nullcontext():
        trainer, reporter, tokenizer = _prepare(run, settings, termination, checkpoint)
    with termination.held_back():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if termination.is_requested:
        raise Terminated

    was_stopped = trainer.state.global_step < trainer.state.max_steps and not reporter.has_stopped_early
    run.update_status(state="scoring", step=trainer.state.global_step, message="Saving the adapter.")
    scores = _kept_scores(trainer)
    trainer.refuse_broken_weights()
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if settings.fsdp else None
    distributed.leave_ranks()
    if distributed.is_first_rank():
        save_adapter(trainer.model, tokenizer, run, recorded_model(run).public_id, weights)
        keep_heldout_scores(run, scores)
    told = " ".join(filter(None, [discarded, _ending(reporter)]))
    return Trained(scores, trainer.kept_step(), was_stopped, told)


def _prepare(
    run: Run, settings: RunSettings, termination: Termination, checkpoint: Path | None
) -> tuple[Any, RunReporter, Any]:
    """The trainer over the rendered data and the loaded model, what it reports to, and the tokenizer."""
    transformers.set_seed(settings.seed)
    home, ref = run.home, recorded_model(run)
    with distributed.first_rank_first():
        tokenizer = load_tokenizer(ref, home)
        max_length = settle_max_length(run, tokenizer)
        settings = settings.model_copy(update={"max_length": max_length})
        train = token_rows(run, tokenizer, max_length, settings.block_size)
    heldout = list(render_rows(run.heldout_file, tokenizer, max_length))
    run.forget_after(checkpoint_step(checkpoint) if checkpoint else -1)
    reporter = RunReporter(run, settings, termination, _watcher(tokenizer, settings))
    model = load_trainable(run, settings)
    job = TrainingJob(
        model, tokenizer, train, heldout, settings, run.checkpoints_dir, [reporter], is_resumed=checkpoint is not None
    )
    place_tracker(run)
    trainer = reporter.trainer = build_trainer(job)
    trainer.termination = termination
    return trainer, reporter, tokenizer


def save_adapter(model: Any, tokenizer: Any, run: Run, base_id: str, weights: dict[str, Any] | None = None) -> None:
    """`adapter/` with tokenizer and chat template, whole or not at all. It names its base by a public id.

    `weights` are the model's where they do not stand in it, as when FSDP has split it up.
    """
    draft, old = (run.path / name for name in ADAPTER_DRAFTS)
    shutil.rmtree(draft, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.peft_config[ADAPTER_NAME].base_model_name_or_path = base_id
        model.save_pretrained(draft, save_embedding_layers=False, state_dict=weights)
        (draft / "README.md").unlink(missing_ok=True)  # PEFT's card names the base by its folder on this machine
    else:
        model.save_pretrained(draft, state_dict=weights)
    tokenizer.save_pretrained(draft)
    put_on_disk(*draft.rglob("*"), draft)
    if run.has_adapter():
        run.adapter_dir.rename(old)
    draft.rename(run.adapter_dir)
    shutil.rmtree(old, ignore_errors=True)


def load_trainable(run: Run, settings: RunSettings) -> Any:
    """The base with a fresh adapter, or for `full` the base itself in float32, which small steps need."""
    home, hardware = run.home, distributed.this_rank_hardware(settings)
    dtype = settle_precision(run, settings, hardware)
    base = load_base(recorded_model(run), home, hardware, dtype, in_4bit=settings.method == "qlora")
    if settings.method == "full":
        return base
    keep_4bit_differentiable(base, True)
    return attach_lora(base, settings)


def _preparing_message(run: Run) -> str:
    if run.record().model.location == "starter" and not starter_is_ready(run.home):
        return "Fetching and converting the starter model. This happens once and takes about a minute."
    return "Loading the model."


def _ending(reporter: RunReporter) -> str:
    """What there is to say of a run that ended as it should: nothing, unless it is not as a reader expects."""
    last, kept = reporter.trainer.state.global_step, reporter.trainer.kept_step()
    told = []
    if reporter.has_stopped_early:
        patience = reporter.settings.early_stopping_patience
        told.append(f"Stopped early at step {last}: {patience} measurements in a row without a better held-out loss.")
    if kept != last:
        told.append(f"The weights from step {kept} are kept, because the held-out loss was lowest there.")
    return " ".join(told)


def _watcher(tokenizer: Any, settings: RunSettings) -> Any:
    """A function from the model as it is now to its answers to the watch prompts."""
    prompts = [render_prompt(tokenizer, [{"role": "user", "content": text}]) for text in settings.watch_prompts]
    stops, sampling = stop_ids(tokenizer), Sampling(max_new_tokens=min(settings.max_new_tokens, WATCH_MAX_NEW_TOKENS))

    def answer(model: Any) -> list[WatchAnswer]:
        if not prompts:
            return []
        was_training = model.training
        model.eval()
        try:
            answers = answer_prompts(model, tokenizer, prompts, sampling, stops)
        finally:
            model.train(was_training)
        return [_watch_answer(*both) for both in zip(settings.watch_prompts, answers, strict=True)]

    return answer


def _watch_answer(prompt: str, answer: Answer) -> WatchAnswer:
    found = WatchAnswer(prompt=prompt, answer=answer.text, finished=answer.finished)
    return found.model_copy(update={"broken": True}) if answer.broken else found


def _kept_scores(trainer: Any) -> list[RowScore]:
    """Of the weights that are kept."""
    return trainer.scores.get(trainer.kept_step()) or score_conversations(trainer.model, trainer.heldout)


def _in_one_line(error: Exception) -> str:
    lacks_room = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if lacks_room or "No space left on device" in str(error):  # safetensors puts it into an error of its own
        return "The disk is full. Free up space and resume the run."
    if distributed.lost_another_rank(error):
        return "Another of the run's processes ended, so training could not continue. Resume the run."
    return f"Training stopped because of an unexpected error: {kind_and_first_line(error)}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
