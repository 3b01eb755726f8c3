"""One run in a process of its own: load, train, score, save. Nothing here knows of the page.

Run as `python -m sft_app.training.worker RUN_DIR MICRO_BATCH ACCUMULATION`; everything else stands in the run folder.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import transformers

from sft_app.compare.generate import Sampling, answer_prompts
from sft_app.compare.scorecard import RowScore, make_scorecard, score_conversations
from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import RenderedConversation, render_conversation, render_prompt, stop_ids
from sft_app.errors import AppError, DataError
from sft_app.files import read_jsonl, write_json_atomically
from sft_app.models.catalog import recorded_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import ADAPTER_NAME, attach_lora, keep_4bit_differentiable, load_base, load_tokenizer
from sft_app.models.starter import starter_is_ready
from sft_app.runs import Run
from sft_app.settings import RunSettings
from sft_app.training.arguments import TrainingJob, training_dtype, widen_trainable
from sft_app.training.callbacks import RunReporter
from sft_app.training.checkpoints import checkpoint_step, last_complete_checkpoint
from sft_app.training.supervisor import OUT_OF_MEMORY_EXIT, hand_over

WATCH_MAX_NEW_TOKENS = 100
logger = logging.getLogger(__name__)


def main(run_dir: str, micro_batch: str, accumulation: str) -> int:
    """The exit status: 0 when the run folder tells how it ended, `OUT_OF_MEMORY_EXIT` to be started again smaller."""
    run = Run(Path(run_dir))
    signal.signal(signal.SIGTERM, lambda *_: run.request_stop())
    try:
        hand_over(run, os.getpid(), _preparing_message(run))
        smaller = {"per_device_train_batch_size": int(micro_batch), "gradient_accumulation_steps": int(accumulation)}
        train_run(run, run.record().settings.model_copy(update=smaller))
    except torch.OutOfMemoryError:
        traceback.print_exc()
        return OUT_OF_MEMORY_EXIT
    except AppError as error:
        run.update_status(state="failed", message=str(error))
    except Exception as error:  # the last place that can tell the reader; the traceback goes to the run's log
        traceback.print_exc()
        run.update_status(state="failed", message=_in_one_line(error), hint="The whole story is in the run's log.")
    return 0


def train_run(run: Run, settings: RunSettings) -> None:
    """The whole job, in the order in which it happens."""
    transformers.set_seed(settings.seed)
    home, ref = run.path.parents[1], recorded_model(run)
    tokenizer = load_tokenizer(ref, home)
    train, heldout = (_render_file(file, tokenizer, settings) for file in (run.train_file, run.heldout_file))
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    run.forget_after(checkpoint_step(checkpoint) if checkpoint else -1)
    reporter = RunReporter(run, _watcher(tokenizer, settings))
    model = _load_trainable(run, settings)
    job = TrainingJob(
        model, tokenizer, train, heldout, settings, run.checkpoints_dir, [reporter], is_resumed=checkpoint is not None
    )
    trainer = reporter.trainer = _build_trainer(job)
    if training_dtype(model) == torch.float16:
        widen_trainable(trainer.model)

    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    was_stopped = trainer.state.global_step < trainer.state.max_steps
    run.update_status(state="scoring", step=trainer.state.global_step, message="Saving and comparing.")
    save_adapter(trainer.model, tokenizer, run, ref.public_id)
    _write_scorecard(run, trainer)
    run.update_status(state="stopped" if was_stopped else "finished", message="")


def save_adapter(model: Any, tokenizer: Any, run: Run, base_id: str) -> None:
    """`adapter/` with tokenizer and chat template, whole or not at all. It names its base by a public id."""
    draft, old = run.path / ".adapter-new", run.path / ".adapter-old"
    shutil.rmtree(draft, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.peft_config[ADAPTER_NAME].base_model_name_or_path = base_id
        model.save_pretrained(draft, save_embedding_layers=False)
        (draft / "README.md").unlink(missing_ok=True)  # PEFT's card names the base by its folder on this machine
    else:
        model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    if run.has_adapter():
        run.adapter_dir.rename(old)
    draft.rename(run.adapter_dir)
    shutil.rmtree(old, ignore_errors=True)


def _load_trainable(run: Run, settings: RunSettings) -> Any:
    """The base with a fresh adapter, or for `full` the base itself in float32, which small steps need."""
    home, hardware = run.path.parents[1], detect_hardware()
    if settings.method == "full":
        return load_base(recorded_model(run), home, hardware, "float32")
    base = load_base(recorded_model(run), home, hardware, settings.dtype, in_4bit=settings.method == "qlora")
    keep_4bit_differentiable(base, True)
    return attach_lora(base, settings)


def _preparing_message(run: Run) -> str:
    if run.record().model.location == "starter" and not starter_is_ready(run.path.parents[1]):
        return "Fetching and converting the starter model. This happens once and takes about a minute."
    return "Loading the model."


def _render_file(file: Path, tokenizer: Any, settings: RunSettings) -> list[RenderedConversation]:
    """Conversations that the model's chat template refuses are left out, and told in the log."""
    rendered, refused = [], []
    for row in read_jsonl(file):
        try:
            rendered.append(render_conversation(tokenizer, make_conversation(row["messages"]), settings.max_length))
        except DataError as error:
            refused.append(f"{file.name}, row {row.get('row', '?')}: {error}")
    if refused and not rendered:
        raise DataError(refused[0])
    if refused:
        logger.warning("%d conversations are left out. %s", len(refused), "; ".join(refused[:10]))
    if not any(conversation.trained for conversation in rendered):
        raise DataError(f"No answer in {file.name} begins within max_length {settings.max_length}; raise it.")
    return rendered


def _build_trainer(job: TrainingJob) -> Any:
    if job.settings.trainer == "classic":
        from sft_app.training.classic import build_classic_trainer

        return build_classic_trainer(job)
    from sft_app.training.sft import build_sft_trainer

    return build_sft_trainer(job)


def _watcher(tokenizer: Any, settings: RunSettings) -> Any:
    """A function from the model as it is now to its answers to the watch prompts."""
    prompts = [render_prompt(tokenizer, [{"role": "user", "content": text}]) for text in settings.watch_prompts]
    stops, sampling = stop_ids(tokenizer), Sampling(max_new_tokens=min(settings.max_new_tokens, WATCH_MAX_NEW_TOKENS))

    def answer(model: Any) -> list[dict[str, Any]]:
        if not prompts:
            return []
        was_training = model.training
        model.eval()
        try:
            answers = answer_prompts(model, tokenizer, prompts, sampling, stops)
        finally:
            model.train(was_training)
        return [
            {"prompt": prompt, "answer": answer.text, "finished": answer.finished}
            for prompt, answer in zip(settings.watch_prompts, answers, strict=True)
        ]

    return answer


def _write_scorecard(run: Run, trainer: Any) -> None:
    """From the evaluations at step 0, where a fresh adapter changes nothing, and at the last step."""
    base = [RowScore(**row) for row in read_jsonl(run.base_scores_file)]
    tuned = trainer.scores.get(trainer.state.global_step) or score_conversations(trainer.model, trainer.heldout)
    write_json_atomically(run.path / "scorecard.json", make_scorecard(base, tuned))


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full; make room and resume the run."
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"Training stopped on an unexpected error: {type(error).__name__}: {first}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
