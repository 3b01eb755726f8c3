"""Check, before a run is written, that the model's chat template can be trained with."""

from __future__ import annotations

from pathlib import Path

from sft_app.data.chat_templates import can_think, stored_chat_template
from sft_app.data.tokens import NO_THINKING, check_chat_template
from sft_app.errors import DataError, NoChatTemplate
from sft_app.models.catalog import ModelRef
from sft_app.models.loading import load_tokenizer
from sft_app.settings import RunSettings


def check_template_of_run(settings: RunSettings, ref: ModelRef, home: Path) -> list[str]:
    """Render an exchange with the run's chat template and return a sentence for each unusual thing about it.

    A model's own template may reject this exchange and still accept the data, so only a missing one is an error.

    Raises:
        DataError: the model has no chat template, or the chosen one cannot be rendered or hides the answer.
        ModelError: the tokenizer cannot be loaded.
    """
    is_own, has_one = not settings.chat_template, ref.location == "starter" or stored_chat_template(ref.folder(home))
    if is_own and has_one and not settings.enable_thinking:
        return []
    tokenizer = load_tokenizer(ref, home, settings.chat_template, settings.enable_thinking)
    try:
        notes = check_chat_template(tokenizer)
        return notes if can_think(tokenizer) or not settings.enable_thinking else [*notes, NO_THINKING]
    except NoChatTemplate:
        raise
    except DataError:
        if is_own:
            return []
        raise
