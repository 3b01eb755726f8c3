"""Save what was trained, whole or not at all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from sft_app.models.loading import ADAPTER_NAME
from sft_app.runs.folder import ADAPTER_DRAFTS, Run
from sft_app.runtime.files import put_on_disk

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    run: Run,
    base_id: str,
    weights: dict[str, Any] | None = None,
) -> None:
    """Save `adapter/` with tokenizer and chat template, whole or not at all. It names its base by a public id.

    `weights` are the model's if it does not hold them itself, as when FSDP has sharded it.
    """
    draft, old = (run.path / name for name in ADAPTER_DRAFTS)
    shutil.rmtree(draft, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.peft_config[ADAPTER_NAME].base_model_name_or_path = base_id
        model.save_pretrained(draft, save_embedding_layers=False, state_dict=weights)
        (draft / "README.md").unlink(missing_ok=True)  # PEFT's card names the base by its local path
    else:
        model.save_pretrained(draft, state_dict=weights)
    tokenizer.save_pretrained(draft)
    put_on_disk(*draft.rglob("*"), draft)
    if run.has_adapter():
        run.adapter_dir.rename(old)
    draft.rename(run.adapter_dir)
    shutil.rmtree(old, ignore_errors=True)
