"""Run one run in its own process: load, train, score, save. Independent of the page.

Run as `python -m sft_app.training.worker RUN_DIR MICRO_BATCH ACCUMULATION`; everything else is in the run folder.
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
from typing import TYPE_CHECKING, Any

import transformers

from sft_app.data.tokens import encode_question, stop_ids
from sft_app.errors import AppError, kind_and_first_line
from sft_app.evaluation.forgetting.strength import describe_strength
from sft_app.evaluation.scorecard import RowScore
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import load_tokenizer
from sft_app.models.starter import starter_is_ready
from sft_app.runs.checkpoints import checkpoint_step, discard_incomplete, last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.runs.records import WatchAnswer
from sft_app.runtime.resources import is_out_of_memory
from sft_app.settings import RunSettings
from sft_app.training import distributed
from sft_app.training.auto_settings import resolve_max_length, resolve_step_size
from sft_app.training.callbacks import RunReporter
from sft_app.training.divergence import discard_broken_checkpoints
from sft_app.training.optional_deps import configure_tracker
from sft_app.training.replay.rows import add_replay
from sft_app.training.saving import save_adapter
from sft_app.training.scoring import complete_scorecard, write_heldout_scorecard
from sft_app.training.strength import keep_best_strength
from sft_app.training.supervisor import hand_over, record_terminated
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
from sft_app.training.tokenized_dataset import describe_rows, load_tokenized_dataset, tokenize_file
from sft_app.training.trainable import load_trainable
from sft_app.training.trainers.arguments import TrainingJob, step_dtype
from sft_app.training.trainers.build import build_trainer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
MAX_WATCH_TOKENS = 100
NOTHING_LEARNED_MESSAGE = "Stopped before anything was learned: there is nothing to save."


def main(run_dir: str, micro_batch: str, accumulation: str) -> int:
    """Run the worker and return its exit status.

    0 if the run folder says how it ended, `OUT_OF_MEMORY_EXIT` to be restarted with smaller batches, `TERMINATED_EXIT`
    after SIGTERM, `BUSY_EXIT` if another worker has the run.
    """
    distributed.exit_with_launcher()
    try:
        with distributed.hold_run(Run(Path(run_dir))) as is_ours:
            return _work(run_dir, micro_batch, accumulation) if is_ours else BUSY_EXIT
    except FileNotFoundError:
        if Path(run_dir).is_dir():
            raise
        return 0  # the run was deleted


def _work(run_dir: str, micro_batch: str, accumulation: str) -> int:
    run, termination = distributed.run_for_this_rank(Run(Path(run_dir))), Termination()
    signal.signal(signal.SIGTERM, termination)
    try:
        hand_over(run, distributed.leading_pid(), _loading_message(run))
        distributed.join_ranks()
        smaller = {"per_device_train_batch_size": int(micro_batch), "gradient_accumulation_steps": int(accumulation)}
        with termination.watching(run) if distributed.is_first_rank() else nullcontext():
            train_run(run, run.record().settings.model_copy(update=smaller), termination)
    except StopRequested:
        run.update_status(state="stopped", message=NOTHING_LEARNED_MESSAGE)
    except Cancelled:
        run.finish_cancel()
        return CANCELLED_EXIT if distributed.world_size() > 1 else 0  # ends the other ranks
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not run.status().has_ended():  # SIGTERM may arrive after the run has ended
            checkpoint = last_complete_checkpoint(run.checkpoints_dir)
            record_terminated(run, checkpoint_step(checkpoint) if checkpoint else 0)
        return TERMINATED_EXIT
    except AppError as error:
        run.update_status(state="failed", message=str(error), **({"hint": error.hint} if error.hint else {}))
        return distributed.failure_exit(error)
    except Exception as error:  # last chance to tell the user; the traceback goes to the run's log
        traceback.print_exc()
        if is_out_of_memory(error):
            return OUT_OF_MEMORY_EXIT
        run.update_status(state="failed", message=_failure_message(error), hint="The run's log has the details.")
        return distributed.failure_exit(error)
    return 0


def train_run(run: Run, settings: RunSettings, termination: Termination) -> None:
    """Train and save, then measure what was saved with the memory that training has freed.

    Raises:
        Terminated: what was learned is in a checkpoint.
        StopRequested: nothing has been learned yet.
    """
    trained = _train(run, settings, termination)
    message = trained.message
    if distributed.is_first_rank():
        is_stopped = trained.was_stopped or run.stop_is_requested()
        prompts = 0 if is_stopped else settings.scorecard_prompts
        message = " ".join(filter(None, [message, complete_scorecard(run, trained.scores, prompts, termination)]))
    state = "stopped" if trained.was_stopped else "finished"
    run.update_status(state=state, message=message, kept_step=trained.kept_step)
    if not trained.was_stopped and distributed.is_first_rank():
        shutil.rmtree(run.tokens_dir, ignore_errors=True)  # a stopped run may be resumed and needs them


@dataclass(frozen=True)
class TrainingResult:
    """Describes how training ended: the held-out scores of the kept weights, and a message for the user."""

    scores: list[RowScore]
    kept_step: int
    was_stopped: bool
    message: str


def _train(run: Run, settings: RunSettings, termination: Termination) -> TrainingResult:
    """Train from the run folder to the saved adapter, step by step.

    Raises: as `train_run`.
    """
    with distributed.first_rank_first():
        discard_incomplete(run.checkpoints_dir)
        discarded = discard_broken_checkpoints(run.checkpoints_dir)
    if discarded:
        logger.warning(discarded)
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    # A stop keeps what an earlier worker learned.
    is_interruptible = checkpoint is None and distributed.world_size() == 1
    with termination.stoppable() if is_interruptible else nullcontext():
        trainer, reporter, tokenizer, replayed = _prepare(run, settings, termination, checkpoint)
    with termination.deferred(), reporter.noting_early_shortage():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if termination.is_requested:
        raise Terminated

    was_stopped = trainer.state.global_step < trainer.state.max_steps and not reporter.has_stopped_early
    kept = trainer.kept_step()
    run.update_status(state="scoring", step=trainer.state.global_step, kept_step=kept, message="Saving the adapter.")
    trainer.refuse_broken_weights()
    choice, why_not = None, ""
    if settings.choose_strength and not was_stopped:
        choice, why_not = keep_best_strength(run, trainer, tokenizer)
    scores = trainer.kept_scores()
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if settings.fsdp else None
    distributed.leave_ranks()
    if distributed.is_first_rank():
        save_adapter(trainer.model, tokenizer, run, recorded_model(run).public_id, weights)
        if choice is not None:
            run.keep_strength(choice)
        write_heldout_scorecard(run, scores)
    told = [
        discarded,
        _ending_message(reporter),
        replayed,
        why_not,
        describe_strength(choice),
        describe_rows(run, tokenizer),
    ]
    message = " ".join(filter(None, told))
    return TrainingResult(scores, trainer.kept_step(), was_stopped, message)


def _prepare(
    run: Run, settings: RunSettings, termination: Termination, checkpoint: Path | None
) -> tuple[Any, RunReporter, Any, str]:
    """Return the trainer with its data and model, what it reports to, the tokenizer, and a sentence on the replay."""
    transformers.set_seed(settings.seed)
    home, ref = run.home, recorded_model(run)
    with distributed.first_rank_first():
        tokenizer = load_tokenizer(ref, home, settings.chat_template, settings.enable_thinking)
        max_length = resolve_max_length(run, tokenizer)
        settings = settings.model_copy(update={"max_length": max_length})
        train = load_tokenized_dataset(run, tokenizer, max_length, settings.block_size)
    settings = resolve_step_size(run, settings, train, distributed.this_rank_hardware(settings))
    heldout, judging = list(tokenize_file(run.heldout_file, tokenizer, max_length)), None
    if run.validation_file.exists():
        heldout, judging = list(tokenize_file(run.validation_file, tokenizer, max_length)), heldout
    run.forget_after(checkpoint_step(checkpoint) if checkpoint else -1)
    reporter = RunReporter(run, settings, termination, _make_watch_function(tokenizer, settings))
    model = load_trainable(run, settings, train[0]["input_ids"])
    with distributed.first_rank_first():
        train, replayed = add_replay(run, settings, model, tokenizer, train, max_length)
    # Earlier versions did not record the precision of steps, which was that of the weights.
    began_in = run.status().step_precision or (run.status().precision if checkpoint else "")
    job = TrainingJob(
        *(model, tokenizer, train, heldout, settings, run.checkpoints_dir, [reporter]),
        is_resumed=checkpoint is not None,
        step_precision=began_in,
        judging=judging,
    )
    configure_tracker(run)
    trainer = reporter.trainer = build_trainer(job)
    run.update_status(step_precision=str(step_dtype(trainer.args)).removeprefix("torch."))
    trainer.termination = termination
    return trainer, reporter, tokenizer, replayed


def _loading_message(run: Run) -> str:
    if run.record().model.location == "starter" and not starter_is_ready(run.home):
        return "Fetching and converting the starter model. This happens once and takes about a minute."
    return "Loading the model."


def _ending_message(reporter: RunReporter) -> str:
    """Return a message about a run that ended normally, empty unless something was unexpected."""
    last, kept = reporter.trainer.state.global_step, reporter.trainer.kept_step()
    message = []
    if reporter.has_stopped_early:
        patience = reporter.settings.early_stopping_patience
        message.append(
            f"Stopped early at step {last}: {patience} measurements in a row without a better held-out loss."
        )
    if kept != last:
        message.append(f"The weights from step {kept} are kept, because the held-out loss was lowest there.")
    return " ".join(message)


def _make_watch_function(tokenizer: PreTrainedTokenizerBase, settings: RunSettings) -> Any:
    """Return a function from the current model to its answers to the watch prompts."""
    prompts = [encode_question(tokenizer, text) for text in settings.watch_prompts]
    stops, sampling = stop_ids(tokenizer), Sampling(max_new_tokens=min(settings.max_new_tokens, MAX_WATCH_TOKENS))

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
    watch_answer = WatchAnswer(prompt=prompt, answer=answer.text, finished=answer.finished)
    return watch_answer.model_copy(update={"broken": True}) if answer.broken else watch_answer


def _failure_message(error: Exception) -> str:
    lacks_room = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if lacks_room or "No space left on device" in str(error):  # safetensors raises its own error
        return "The disk is full. Free up space and resume the run."
    if distributed.lost_another_rank(error):
        return "Another of the run's processes ended, so training could not continue. Resume the run."
    return f"Training stopped because of an unexpected error: {kind_and_first_line(error)}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
