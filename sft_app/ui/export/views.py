"""What the Download panel shows, from plain values."""

from __future__ import annotations

from html import escape

from sft_app.export.hub_push import PushResult
from sft_app.export.merged import MergedModel, Step
from sft_app.export.package import OllamaPackage, fidelity_message
from sft_app.hosting import Hosting, Visitor

KINDS = [
    ("Adapter: what training changed", "adapter"),
    ("Merged model: base and adapter as one", "merged"),
    ("Ollama: chat on your own computer", "ollama"),
]
TOO_LARGE = "It is too large to download through the browser. Push it to the Hub instead."
TOLD = {
    "adapter": "A zip of what was trained. An adapter is a few megabytes and is loaded on top of the base model "
    "with PEFT; a full fine-tune is the whole model.",
    "merged": "For transformers, vLLM and others: the adapter is merged into the weights of its base model, in "
    "bfloat16. It takes as much disk space as the whole model, and a few minutes, because the result is read back and "
    "compared with base and adapter.",
    "ollama": "The merged model plus a Modelfile with the chat template, the system prompt, the stop tokens "
    "and the run's temperature, for Ollama on your own computer.",
}
NOT_LOGGED_IN = (
    "**No one is logged in to the Hub on this machine.** Run `hf auth login` in a terminal, or start the app with "
    "`HF_TOKEN` set to a token with write access, from huggingface.co/settings/tokens. Then come back here."
)
LOGGED_IN = "Pushes with this machine's Hub login."


def progress_card(step: Step) -> str:
    share = 100 * step.share
    return (
        f'<section class="ft-card"><header><strong>{escape(step.what)} …</strong><span>{share:.0f} %</span></header>'
        f'<div class="ft-bar" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        "</section>"
    )


def told_card(text: str) -> str:
    return f'<section class="ft-card ft-empty">{escape(text)}</section>'


def merged_card(merged: MergedModel, where: str, package: OllamaPackage | None) -> str:
    """`where` it is, in a sentence; empty where a button says it."""
    sentence, is_warning = fidelity_message(merged)
    verdict = f'<p class="{"ft-warning" if is_warning else ""}" id="fidelity">{escape(sentence)}</p>'
    parts = [f"<header><strong>{'Ready for Ollama' if package else 'The merged model is ready'}</strong></header>"]
    if where:
        parts.append(f"<p>{escape(where)}</p>")
    parts.append(verdict)
    if package is not None:
        parts += [f'<p class="ft-warning">{escape(note)}</p>' for note in _notes(package)]
    return f'<section class="ft-card">{"".join(parts)}</section>'


def ollama_commands(package: OllamaPackage, is_at_home: bool) -> str:
    """What to type in a terminal; from the folder itself where the model is fetched as a zip."""
    make = package.model.command if is_at_home else f"ollama create {package.model.name} -f Modelfile"
    commands = [make, f"ollama run {package.model.name}"]
    if package.manual_commands and is_at_home:
        commands += ["# For a GGUF file, or if Ollama does not support the architecture:", *package.manual_commands]
    return "\n".join(commands)


def _notes(package: OllamaPackage) -> list[str]:
    return [*package.model.notes, *filter(None, [package.gguf_problem])]


def login_line(hosting: Hosting, visitor: Visitor, has_hub_login: bool) -> str:
    """In whose name something is pushed, or what to do so that it can be."""
    if not hosting.is_hosted:
        return LOGGED_IN if has_hub_login else NOT_LOGGED_IN
    if visitor.name is None:
        return "**Sign in** with your Hugging Face account to push."
    if not hosting.trusts(visitor):
        return "Only the owner of this Space and people they allow can push. **Duplicate the Space** to get your own."
    return f"Pushes as **{visitor.name}**."


def pushed_line(pushed: PushResult) -> str:
    """Where it is now. The names in it have been checked: they have no Markdown in them."""
    who = "only you and people you give access can see it" if pushed.private else "everyone can see it"
    return "\n\n".join([f"Done: [{pushed.repo}]({pushed.url}), {pushed.files} files; {who}.", *pushed.notes])
