"""Write a Modelfile next to a merged model, so that Ollama renders conversations exactly as in training.

Source: Ollama's Modelfile reference and its parser, whose quoted values have no escapes and lose unprintable
characters; its templates are Go's text/template over `.System` and `.Messages`.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.errors import ExportError
from sft_app.models.catalog import ModelRef
from sft_app.models.loading import load_tokenizer
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_text_atomically
from sft_app.settings import RunSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sft_app.export.chat_template_parts import ChatTemplateParts

MODELFILE = "Modelfile"
# Ollama reserves memory for the whole context.
MAX_CONTEXT = 8192
IS_LAST = "eq (len (slice $.Messages $index)) 1"


@dataclass(frozen=True)
class OllamaModel:
    """Describes a written Modelfile.

    `command` registers the model in Ollama, from any folder. `notes` say how Ollama will differ from Compare.
    """

    modelfile: Path
    command: str
    name: str
    notes: tuple[str, ...] = ()


def write_modelfile(run: Run, folder: Path, weights: str = ".") -> OllamaModel:
    """Write `folder/Modelfile` for the merged model in the folder, or for the GGUF file `weights` next to it.

    Raises: ExportError if the folder cannot be written.
    """
    from sft_app.data.tokens import stop_ids

    settings, ref = run.record().settings, ModelRef("the merged model", str(folder), None, "merged")
    tokenizer = load_tokenizer(ref, run.home, enable_thinking=settings.enable_thinking)
    parts, notes = _template_parts(tokenizer)
    system, opening = settings.system_prompt, None
    if parts and not system:
        system = default_system(parts)
    if system and not _is_writable(system):
        system, opening = "", system
        if not parts:
            notes.append(
                "The system prompt contains characters a Modelfile cannot store. "
                "Send it with each conversation instead."
            )
    lines = [f"# Fine-tuned in run {run.id}. Register it with: ollama create NAME -f {MODELFILE}", f"FROM {weights}"]
    lines += [f"# {note}" for note in notes]
    if parts:
        lines.append(f'TEMPLATE """{go_template(parts, opening)}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    stops = [tokenizer.decode([id], skip_special_tokens=False) for id in sorted(stop_ids(tokenizer))]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [f"PARAMETER {name} {value:g}" for name, value in ollama_parameters(settings, folder, tokenizer).items()]
    try:
        write_text_atomically(folder / MODELFILE, "\n".join(lines) + "\n")
    except OSError as error:
        raise ExportError(f"The Modelfile could not be written to {folder}: {error.strerror or error}.") from error
    name = ollama_name(settings.name) or f"run-{run.id}"
    return OllamaModel(
        folder / MODELFILE, f"ollama create {name} -f {shlex.quote(str(folder / MODELFILE))}", name, tuple(notes)
    )


def go_template(parts: ChatTemplateParts, default: str | None = None) -> str:
    """Write the parts as a Go text/template.

    `default` is the system prompt for conversations without one, instead of the model's own. A conversation that ends
    with the start of an answer is left open, so that it is continued.
    """
    before, after = parts.user
    opening = parts.opening if default is None else parts.system[0] + default + parts.system[1]
    closing = parts.system[1]
    question = _go_text(before)
    start = ""
    if opening.endswith(before) and closing.endswith(before):
        opening, closing = opening.removesuffix(before), closing.removesuffix(before)
    else:  # the first question starts differently from later ones
        start, question = "{{ $begun := false }}", f"{{{{ if $begun }}}}{question}{{{{ end }}}}{{{{ $begun = true }}}}"
    without = f"{{{{ else }}}}{_go_text(opening)}" if opening else ""
    with_system = f"{_go_text(parts.system[0])}{{{{ .System }}}}{_go_text(closing)}"
    answer_before, answer_after = map(_go_text, parts.assistant)
    return (
        f"{{{{ if .System }}}}{with_system}{without}{{{{ end }}}}{start}"
        "{{ range $index, $message := .Messages }}"
        f'{{{{ if eq .Role "user" }}}}{question}{{{{ .Content }}}}{_go_text(after)}'
        f"{{{{ if {IS_LAST} }}}}{_go_text(parts.generation)}{{{{ end }}}}"
        f'{{{{ else if eq .Role "assistant" }}}}{answer_before}{{{{ .Content }}}}'
        f"{{{{ if not ({IS_LAST}) }}}}{answer_after}{{{{ end }}}}"
        "{{ end }}{{ end }}"
    )


def default_system(parts: ChatTemplateParts) -> str:
    """Return the chat template's own system message, used if none is given."""
    before, after = parts.system
    text = parts.opening
    if len(text) <= len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
        return ""
    return text[len(before) : len(text) - len(after)]


def ollama_parameters(settings: RunSettings, folder: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Return the run's temperature and the sampling parameters of the model's authors.

    Parameters they do not set are turned off: Ollama's defaults, such as its repeat penalty, change even the most
    likely answer.
    """
    generation = _generation_config(folder)
    parameters: dict[str, float] = {"temperature": settings.temperature}
    parameters |= {"top_p": generation.get("top_p") or 1.0, "top_k": generation.get("top_k") or 0}
    parameters["repeat_penalty"] = generation.get("repetition_penalty") or 1.0
    parameters["num_ctx"] = min(tokenizer.model_max_length, MAX_CONTEXT)
    return parameters


def ollama_name(text: str) -> str:
    """Return a name of lower-case letters, digits and dashes, such as `fernhill-quick`; empty if the text has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _template_parts(tokenizer: PreTrainedTokenizerBase) -> tuple[ChatTemplateParts | None, list[str]]:
    """Return the template's parts, or None and the reason; a nearly right template would be worse than none."""
    from sft_app.export.chat_template_parts import split_chat_template, unsupported_template_features

    try:
        parts = split_chat_template(tokenizer)
    except ExportError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        return None, [
            f"This chat template cannot be written for Ollama: {reason}. Ollama picks a template itself, so compare "
            "`ollama show --template` with chat_template.jinja before you use the model."
        ]
    return parts, unsupported_template_features(tokenizer, parts)


def _generation_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config


def _is_writable(text: str) -> bool:
    return '"""' not in text and all(letter.isprintable() or letter in "\n\t" for letter in text)


def _go_text(text: str) -> str:
    """Return the text for a Go template, as a string literal if it would be misread or lost as plain text."""
    if not text or (_is_writable(text) and "{" not in text and "}" not in text):
        return text
    return f'{{{{ "{"".join(map(_go_letter, text))}" }}}}'


def _go_letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter in "{}" or not (letter == " " or letter.isprintable()):
        return f"\\U{ord(letter):08x}"
    return letter
