"""The card next to Start offers one click for what keeps a run from starting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.settings import parse_settings
from sft_app.ui.context import PageContext
from sft_app.ui.data.token_view import build_token_view, token_updates
from sft_app.ui.train.preflight_panel import PreflightPanel, build_preflight_panel, preflight_updates


@pytest.fixture
def panel() -> PreflightPanel:
    with gr.Blocks():
        return build_preflight_panel()


def offered(panel: PreflightPanel, updates: Any) -> tuple[Any, Any]:
    """The visible button's label, and the settings that it changes."""
    button = updates[panel.use]
    return button.value if button.visible else None, updates[panel.changes]


def test_a_base_model_is_offered_chatml_by_one_click(
    panel: PreflightPanel, base_model_dir: Path, data_file: Path, home: Path
) -> None:
    context = PageContext(home)
    settings = parse_settings({"model": str(base_model_dir), "data": str(data_file)})
    updates = preflight_updates(context, panel, settings)
    assert "The model has no chat template: it completes text" in updates[panel.card]
    assert offered(panel, updates) == ("Use ChatML", {"chat_template": "chatml"})
    accepted = preflight_updates(context, panel, settings.model_copy(update={"chat_template": "chatml"}))
    assert "problem" not in accepted[panel.card] and "Memory" in accepted[panel.card]
    assert offered(panel, accepted) == (None, {})


def test_the_tokens_follow_the_chosen_template(base_model_dir: Path, data_file: Path, home: Path) -> None:
    context = PageContext(home)
    settings = parse_settings({"model": str(base_model_dir), "data": str(data_file), "max_length": 128})
    with gr.Blocks():
        view = build_token_view(context, context.data.load(settings.reading()))
    without = token_updates(context, view, settings, 1)
    assert without[view.note].startswith("The tokens cannot be shown: The model has no chat template")
    chatml = token_updates(context, view, settings.model_copy(update={"chat_template": "chatml"}), 1)
    assert ("<|im_end|>", "end, trained") in chatml[view.tokens]
