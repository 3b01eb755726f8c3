"""Show where the page runs and what that allows, with buttons to sign in and to duplicate the Space."""

from __future__ import annotations

import os

import gradio as gr
from gradio.utils import get_space

from sft_app.hosting import NO_TRAINING_REASONS, Hosting
from sft_app.models.gpu_support import gpu_problem
from sft_app.runtime.environment import OAUTH_CLIENT_VARIABLE
from sft_app.storage.backup import storage_state
from sft_app.storage.stores import storage_is_configured
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED
from sft_app.ui.permissions import allowed

DUPLICATE = "Duplicate Space"
EPHEMERAL = (
    "⚠️ **This Space's disk is emptied when it restarts**: download or push the adapter in the **Export** tab when "
    "the run ends."
)


def build_hosting_banner(context: PageContext, demo: gr.Blocks) -> None:
    """Build the banner below the title. On a Space it is computed for each visitor."""
    hosting = context.hosting
    if not hosting.is_hosted:
        return
    with gr.Row(elem_id="hosting", equal_height=False):
        with gr.Column(scale=3, min_width=300):
            sentence = gr.Markdown(hosting_sentence(hosting, None, False), elem_id="hosting-sentence")
        if get_space():  # elsewhere, Gradio would use the machine's own login as the visitor's
            with gr.Column(scale=2, min_width=300), gr.Row():
                if os.environ.get(OAUTH_CLIENT_VARIABLE):  # Gradio does not start without hf_oauth in the Space's card
                    gr.LoginButton("Sign in", size="sm", min_width=130, elem_id="login")
                gr.DuplicateButton(DUPLICATE, size="sm", scale=1, min_width=130, elem_id="duplicate")

    @allowed("look", context)
    def show_hosting() -> str:
        return hosting_sentence(hosting, context.access.visitor().name, context.access.is_trusted())

    demo.load(show_hosting, None, sentence, **UNCHECKED)


def build_gpu_notice(hosting: Hosting) -> None:
    """Say at the top of the page that the GPU of this machine cannot be used, and what would change that."""
    if hosting.allows_training and (problem := gpu_problem()):
        gr.HTML(views.problem_card(problem), elem_id="gpu-problem")


def hosting_sentence(hosting: Hosting, name: str | None, is_trusted: bool) -> str:
    """Return a sentence about the Space's mode and what this visitor can do."""
    if hosting.adapter:
        return f"**Comparison**: `{hosting.adapter}` next to its base model."
    if hosting.mode != "full":
        mode_name = MODE_NAMES[hosting.mode]
        return f"**{mode_name}** Compare adapters published on the Hub. {NO_TRAINING_REASONS[hosting.mode]}"
    if is_trusted:
        return f"**Full.** Signed in as {name}: train, compare, export."
    who = "If you are one of them, sign in." if name is None else f"You are signed in as {name}."
    return (
        f"**Full.** Only the owner and people they allow can train here. {who} "
        "You can compare adapters on the Hub, or duplicate the Space."
    )


MODE_NAMES = {"demo": "Demo.", "zerogpu": "ZeroGPU.", "full": "Full."}


def build_storage_notice(context: PageContext) -> None:
    """Build the line about storage, which is updated each time the page is opened."""

    @allowed("look", context)
    def show_notice() -> str:
        return storage_notice(context)

    notice = gr.Markdown(elem_id="storage-notice")
    gr.on(None, show_notice, None, notice, **PRIVATE)


def storage_notice(context: PageContext) -> str:
    """Return a sentence on whether runs survive a restart; empty if they cannot be lost."""
    can_lose_runs = context.hosting.is_hosted and context.hosting.allows_training
    if not storage_is_configured():
        return EPHEMERAL if can_lose_runs else ""
    state = storage_state(context.home)
    if state["trouble"]:
        warning = f" {EPHEMERAL}" if can_lose_runs else ""
        trouble = f"{state['trouble']} The app will keep trying."
        return f"⚠️ Runs are not being copied to storage at the moment. {trouble}{warning}"
    return f"Runs are copied to {state['place']} and restored from there." if state["place"] else ""
