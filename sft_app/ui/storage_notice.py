"""Beside Start: what becomes of a run when the machine is emptied. At home nothing is said."""

from __future__ import annotations

import gradio as gr

from sft_app.storage.keeper import storage_state
from sft_app.storage.stores import storage_is_named
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE

EPHEMERAL = (
    "⚠️ **This Space's disk is emptied when it restarts**: download or push the adapter in the **Export** tab when "
    "the run has ended."
)


def build_storage_notice(context: PageContext) -> None:
    """Told anew whenever the page is opened."""

    def tell() -> str:
        return storage_notice(context)

    notice = gr.Markdown(elem_id="storage-notice")
    gr.on(None, tell, None, notice, **PRIVATE)


def storage_notice(context: PageContext) -> str:
    """A sentence or two; nothing where there is nothing to fear."""
    can_lose_runs = context.hosting.is_hosted and context.hosting.trains
    if not storage_is_named():
        return EPHEMERAL if can_lose_runs else ""
    state = storage_state(context.home)
    if state["trouble"]:
        fear = f" {EPHEMERAL}" if can_lose_runs else ""
        return f"⚠️ Runs are not being copied to storage at the moment; the app keeps trying: {state['trouble']}{fear}"
    return f"Runs are copied to {state['place']} and restored from there." if state["place"] else ""
