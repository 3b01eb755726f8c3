"""Push to the Hugging Face Hub: the chosen run as a repository, and this app as a Space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.evaluation.answer_pairs import collect_pairs
from sft_app.export.hub_push import (
    PushTarget,
    check_target,
    has_hub_login,
    push_run,
    suggested_name,
    visibility_warning,
)
from sft_app.export.merged import MergedModel, find_merged, follow
from sft_app.export.model_card import default_pairs, saved_kind
from sft_app.export.package import prepare_merged
from sft_app.export.space import push_app_as_space
from sft_app.runs.folder import Run
from sft_app.ui.compare.views import pair_choices
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED, Updates
from sft_app.ui.export.views import EXPORT_FORMATS, PUSH_FORMATS, login_line, pushed_line, warning_line
from sft_app.ui.permissions import allowed, clear_error_after, open_to_all
from sft_app.ui.services.visitors import visitor_of

HUB_INTRO = (
    "Push the trained weights, tokenizer, model card and settings to your own repository on the Hugging Face Hub. If "
    "the upload is interrupted, push again: it continues where it stopped."
)
SPACE_INTRO = (
    "Put this app online, so that others can open it in their browser. Gradio Spaces may require a paid Hub plan."
)
WHOLE_APP, COMPARISON = "The whole app", "Only a comparison of one adapter with its base model"
SPACE_NAMES = {WHOLE_APP: "fine-tune-and-compare", COMPARISON: "compare"}
NAME_INFO = "USER/NAME, or just NAME for your own account."


@dataclass(frozen=True)
class HubFields:
    """The fields to fill in before a run is pushed."""

    login: gr.Markdown
    kind: gr.Radio
    repo: gr.Textbox
    private: gr.Checkbox
    include_data: gr.Checkbox
    warning: gr.HTML
    pairs: gr.Dropdown
    push: gr.Button
    result: gr.Markdown


@dataclass(frozen=True)
class SpaceFields:
    """The fields to fill in before a Space is created."""

    login: gr.Markdown
    content: gr.Radio
    adapter: gr.Textbox
    repo: gr.Textbox
    private: gr.Checkbox
    push: gr.Button
    result: gr.Markdown


def build_push_tabs(context: PageContext, chosen: gr.Dropdown) -> None:
    """Build a tab that pushes the run that `chosen` selects, and one that creates a Space."""
    with gr.Tab("Hub", id="hub") as hub_tab:
        hub = _hub_fields()
    with gr.Tab("Space", id="space") as space_tab:
        space = _space_fields()
    _wire_hub(context, chosen, hub, hub_tab, space.adapter)
    _wire_space(context, space, space_tab)


def _hub_fields() -> HubFields:
    gr.Markdown(HUB_INTRO, elem_id="push-told")
    login = gr.Markdown(elem_id="push-login")
    kind = gr.Radio(PUSH_FORMATS, value="adapter", label="Content", elem_id="push-kind")
    repo = gr.Textbox(label="Repository", info=NAME_INFO, max_lines=1, elem_id="push-repo")
    with gr.Row():
        private = gr.Checkbox(True, label="Private", info="Only you and people you give access can see it.")
        include_data = gr.Checkbox(
            False, label="Include data", info="Also push the conversations that the run was trained on."
        )
    warning = gr.HTML(visible=False, elem_id="push-warning")
    pairs = gr.Dropdown(
        [],
        multiselect=True,
        label="Answers to show in the model card",
        info="Rows of your data are shown only if you choose them here.",
        elem_id="push-pairs",
    )
    push = gr.Button("Push", variant="primary", size="md", elem_id="push-run")
    return HubFields(login, kind, repo, private, include_data, warning, pairs, push, _result("push-result"))


def _space_fields() -> SpaceFields:
    gr.Markdown(SPACE_INTRO, elem_id="space-told")
    login = gr.Markdown(elem_id="space-login")
    content = gr.Radio([WHOLE_APP, COMPARISON], value=WHOLE_APP, label="Content", elem_id="space-what")
    adapter = gr.Textbox(
        label="Adapter",
        info="Any adapter on the Hub, yours or someone else's.",
        placeholder="USER/NAME",
        max_lines=1,
        visible=False,
        elem_id="space-adapter",
    )
    repo = gr.Textbox(SPACE_NAMES[WHOLE_APP], label="Space", info=NAME_INFO, max_lines=1, elem_id="space-repo")
    private = gr.Checkbox(True, label="Private", info="Only you and people you give access can open it.")
    push = gr.Button("Create Space", variant="primary", size="md", elem_id="push-space")
    return SpaceFields(login, content, adapter, repo, private, push, _result("space-result"))


def _result(elem_id: str) -> gr.Markdown:
    """Create the result, as tall as the progress bar that takes its place."""
    return gr.Markdown(elem_id=elem_id, min_height=72)


def _wire_hub(context: PageContext, chosen: gr.Dropdown, hub: HubFields, tab: gr.Tab, adapter: gr.Textbox) -> None:
    """Wire the Hub tab. A pushed adapter becomes the `adapter` that a Space can compare."""

    @allowed("look", context)
    def list_pairs(run_id: str | None, before: list[str] | None) -> gr.Dropdown:
        run = context.runs.find(run_id)
        pairs = collect_pairs(run) if run else []
        kept = [pair.id for pair in pairs if pair.id in (before or [])]
        return gr.Dropdown(pair_choices(pairs), value=kept or (default_pairs(run) if run else []))

    @allowed("look", context)
    def suggest(run_id: str | None, kind: str) -> Updates:
        run = context.runs.find(run_id)
        return {hub.repo: suggested_name(run, kind) if run else "", hub.result: ""}

    @allowed("look", context)
    def rename(run_id: str | None, kind: str, name: str) -> str:
        """Suggest a name for this kind, unless the person has typed one."""
        run = context.runs.find(run_id)
        is_typed = run and name not in {suggested_name(run, known) for _, known in EXPORT_FORMATS}
        return suggested_name(run, kind) if run and not is_typed else name

    @allowed("push", context)
    def push(
        run_id: str | None,
        kind: str,
        repo: str,
        private: bool,
        include_data: bool,
        pairs: list[str],
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Updates:
        target = target_of(context, request, repo, private)
        run = context.runs.get(run_id)
        check_target(target)
        merged = _merge_run(context, run, progress) if kind == "merged" else None
        progress(0.0, desc="Uploading")
        pushed = push_run(run, target, include_data, pairs, lambda share: progress(share, desc="Uploading"), merged)
        is_adapter = merged is None and saved_kind(run) == "adapter"
        return {hub.result: pushed_line(pushed), **({adapter: pushed.repo} if is_adapter else {})}

    @open_to_all
    def warn(private: bool, include_data: bool) -> gr.HTML:
        warning = visibility_warning(private, include_data)
        return gr.HTML(warning_line(warning), visible=bool(warning))

    inputs = [chosen, hub.kind, hub.repo, hub.private, hub.include_data, hub.pairs]
    gr.on([tab.select, chosen.change], list_pairs, [chosen, hub.pairs], hub.pairs, **UNCHECKED)
    chosen.change(suggest, [chosen, hub.kind], [hub.repo, hub.result], **UNCHECKED)
    hub.kind.change(rename, [chosen, hub.kind, hub.repo], hub.repo, **UNCHECKED)
    tab.select(_login_handler(context), None, hub.login, **PRIVATE)
    gr.on([hub.private.change, hub.include_data.change], warn, [hub.private, hub.include_data], hub.warning, **PRIVATE)
    shown: dict[str, Any] = {"api_visibility": "private", "show_progress_on": hub.result}
    clear_error_after(hub.push.click(push, inputs, [hub.result, adapter], **shown), hub.result)


def _merge_run(context: PageContext, run: Run, progress: Any) -> MergedModel:
    """Merge the run. The models of the Compare tab are released first, to free their memory."""
    if find_merged(run, run.merged_dir) is None:
        context.models.release()
    return follow(prepare_merged(run, run.merged_dir), lambda step: progress(step.share, desc=step.what))


def _wire_space(context: PageContext, space: SpaceFields, tab: gr.Tab) -> None:
    @allowed("push", context)
    def create_space(
        content: str,
        adapter: str,
        repo: str,
        private: bool,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> str:
        target = target_of(context, request, repo, private)
        progress(0.0, desc="Uploading")
        compared = adapter if content == COMPARISON else None
        return pushed_line(push_app_as_space(target, compared, lambda share: progress(share, desc="Uploading")))

    @open_to_all
    def choose(content: str, adapter: str) -> Updates:
        name = adapter.rpartition("/")[2]
        repo = f"{SPACE_NAMES[content]}-{name}" if content == COMPARISON and name else SPACE_NAMES[content]
        return {space.adapter: gr.Textbox(visible=content == COMPARISON), space.repo: repo, space.result: ""}

    inputs = [space.content, space.adapter, space.repo, space.private]
    shown = [space.adapter, space.repo, space.result]
    gr.on([space.content.change, space.adapter.change], choose, [space.content, space.adapter], shown, **PRIVATE)
    tab.select(_login_handler(context), None, space.login, **PRIVATE)
    clear_error_after(space.push.click(create_space, inputs, space.result, api_visibility="private"), space.result)


def _login_handler(context: PageContext) -> Any:
    @allowed("look", context)
    def show_login(request: gr.Request) -> str:
        return login_line(context.hosting, visitor_of(context.hosting, request), has_hub_login())

    return show_login


def target_of(context: PageContext, request: gr.Request, repo: str, private: bool) -> PushTarget:
    """Return where to push. On a Space, the visitor's own token is used, never the Space's. Raises: AccessError."""
    visitor = visitor_of(context.hosting, request)
    context.hosting.refuse_unless_trusted(visitor, "push")
    return PushTarget(repo, private, (visitor.token or False) if context.hosting.is_hosted else None)
