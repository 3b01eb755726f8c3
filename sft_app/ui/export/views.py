"""Turn facts about an export into HTML and text for the Export tab. Without Gradio."""

from __future__ import annotations

from sft_app.export.hub_push import PushResult
from sft_app.export.merged import MergedModel, Step
from sft_app.export.package import OllamaPackage, fidelity_message
from sft_app.hosting import Hosting, Visitor
from sft_app.templating import render_html

EXPORT_FORMATS = [
    ("Adapter: what training changed", "adapter"),
    ("Merged model: the base model with the adapter merged in", "merged"),
    ("Ollama: chat on your own computer", "ollama"),
]
PUSH_FORMATS = [(label, kind) for label, kind in EXPORT_FORMATS if kind in ("adapter", "merged")]
TOO_LARGE = "The model is too large to download through the browser. Push it to the Hub instead."
FORMAT_DESCRIPTIONS = {
    "adapter": "A zip of the trained weights and the tokenizer. An adapter is small (20 MB for the starter) and is "
    "loaded on top of the base model with PEFT; a full fine-tune is the whole model.",
    "merged": "For transformers, vLLM and others: the adapter is merged into the weights of its base model, in "
    "bfloat16. It needs as much disk space as the whole model, and takes a few minutes, because the result is read "
    "back and compared with the base model with the adapter.",
    "ollama": "The merged model plus a Modelfile with the chat template, the system prompt, the stop tokens "
    "and the run's temperature, for Ollama on your own computer.",
}
NOT_LOGGED_IN = (
    "**No one is logged in to the Hub on this machine.** Run `hf auth login` in a terminal, or start the app with "
    "`HF_TOKEN` set to a token with write access, from huggingface.co/settings/tokens. Then come back here."
)
LOGGED_IN = "Uses this machine's Hub login."


def merge_progress_card(step: Step) -> str:
    """Show the progress of a merge."""
    return render_html("export/progress.html", what=step.what, percent=100 * step.share)


def merged_card(merged: MergedModel, where: str, package: OllamaPackage | None) -> str:
    """Show that a model is ready and how closely it matches the run. `where` is its location, or empty."""
    sentence, is_warning = fidelity_message(merged)
    return render_html(
        "export/merged.html",
        title="Ready for Ollama" if package else "The merged model is ready",
        where=where,
        fidelity=sentence,
        is_warning=is_warning,
        notes=_notes(package) if package else [],
    )


def ollama_commands(package: OllamaPackage, is_local: bool) -> str:
    """Return the commands for a terminal, to be run in the unpacked folder if the model was downloaded as a zip."""
    create = package.model.command if is_local else f"ollama create {package.model.name} -f Modelfile"
    commands = [create, f"ollama run {package.model.name}"]
    if package.manual_commands and is_local:
        commands += ["# For a GGUF file, or if Ollama does not support the architecture:", *package.manual_commands]
    return "\n".join(commands)


def _notes(package: OllamaPackage) -> list[str]:
    return [*package.model.notes, *filter(None, [package.gguf_problem])]


def warning_line(text: str) -> str:
    """Show a warning before a push."""
    return render_html("paragraph.html", kind="ft-warning", text=text)


def login_line(hosting: Hosting, visitor: Visitor, has_hub_login: bool) -> str:
    """Return whose account a push uses, or what to do before you can push."""
    if not hosting.is_hosted:
        return LOGGED_IN if has_hub_login else NOT_LOGGED_IN
    if visitor.name is None:
        return "**Sign in** with your Hugging Face account to push."
    if not hosting.trusts(visitor):
        return "Only the owner of this Space and people they allow can push. **Duplicate the Space** to get your own."
    return f"You are pushing as **{visitor.name}**."


def pushed_line(pushed: PushResult) -> str:
    """Return where the pushed files are. The names have been checked and contain no Markdown."""
    access = "only you and people you give access can see it" if pushed.private else "everyone can see it"
    return "\n\n".join([f"Done: [{pushed.repo}]({pushed.url}), {pushed.files} files; {access}.", *pushed.notes])
