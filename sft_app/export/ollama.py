"""A Modelfile beside a merged model, with which Ollama renders a conversation exactly as the model was trained on it.

Source: Ollama's Modelfile reference and its parser, whose quoted values have no escapes and lose what is not printable;
its templates are Go's text/template over `.System` and `.Messages`.
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
    from sft_app.export.chat_template_parts import ChatPieces

MODELFILE = "Modelfile"
# Ollama sets aside memory for all of it.
MOST_CONTEXT = 8192
IS_LAST = "eq (len (slice $.Messages $place)) 1"


@dataclass(frozen=True)
class OllamaModel:
    """`command` makes the model known to Ollama, from any folder. `notes` say what Ollama will do otherwise than
    transformers, each in a sentence."""

    modelfile: Path
    command: str
    name: str
    notes: tuple[str, ...] = ()


def write_modelfile(run: Run, folder: Path, weights: str = ".") -> OllamaModel:
    """Writes `folder/Modelfile` for the merged model there, or for the GGUF file `weights` beside it.

    Raises: ExportError when the folder cannot be written.
    """
    from sft_app.data.tokens import stop_ids

    tokenizer = load_tokenizer(ModelRef("the merged model", str(folder), None, "merged"), run.home)
    settings = run.record().settings
    pieces, notes = _pieces_of(tokenizer)
    system, opening = settings.system_prompt, None
    if pieces and not system:
        system = default_system(pieces)
    if system and not _is_writable(system):
        system, opening = "", system
        if not pieces:
            notes.append(
                "The system prompt contains characters a Modelfile cannot store. Give it in each conversation instead."
            )
    lines = [f"# Fine-tuned in run {run.id}. Register it with: ollama create NAME -f {MODELFILE}", f"FROM {weights}"]
    lines += [f"# {note}" for note in notes]
    if pieces:
        lines.append(f'TEMPLATE """{go_template(pieces, opening)}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    stops = [tokenizer.decode([id], skip_special_tokens=False) for id in _stops(folder, stop_ids(tokenizer))]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [f"PARAMETER {name} {value:g}" for name, value in parameters(settings, folder, tokenizer).items()]
    try:
        write_text_atomically(folder / MODELFILE, "\n".join(lines) + "\n")
    except OSError as error:
        raise ExportError(f"The Modelfile could not be written to {folder}: {error.strerror or error}.") from error
    name = ollama_name(settings.name) or f"run-{run.id}"
    return OllamaModel(
        folder / MODELFILE, f"ollama create {name} -f {shlex.quote(str(folder / MODELFILE))}", name, tuple(notes)
    )


def go_template(pieces: ChatPieces, default: str | None = None) -> str:
    """As Go's text/template. `default` is the system prompt where a conversation has none, instead of the model's own.

    A conversation that ends with a beginning of the answer is left open, so that it is gone on with.
    """
    before, after = pieces.user
    opening = pieces.opening if default is None else pieces.system[0] + default + pieces.system[1]
    closing = pieces.system[1]
    question = _go_text(before)
    start = ""
    if opening.endswith(before) and closing.endswith(before):
        opening, closing = opening.removesuffix(before), closing.removesuffix(before)
    else:  # the first question begins otherwise than those after it
        start, question = "{{ $begun := false }}", f"{{{{ if $begun }}}}{question}{{{{ end }}}}{{{{ $begun = true }}}}"
    without = f"{{{{ else }}}}{_go_text(opening)}" if opening else ""
    given = f"{_go_text(pieces.system[0])}{{{{ .System }}}}{_go_text(closing)}"
    answer_before, answer_after = map(_go_text, pieces.assistant)
    return (
        f"{{{{ if .System }}}}{given}{without}{{{{ end }}}}{start}"
        "{{ range $place, $message := .Messages }}"
        f'{{{{ if eq .Role "user" }}}}{question}{{{{ .Content }}}}{_go_text(after)}'
        f"{{{{ if {IS_LAST} }}}}{_go_text(pieces.generation)}{{{{ end }}}}"
        f'{{{{ else if eq .Role "assistant" }}}}{answer_before}{{{{ .Content }}}}'
        f"{{{{ if not ({IS_LAST}) }}}}{answer_after}{{{{ end }}}}"
        "{{ end }}{{ end }}"
    )


def default_system(pieces: ChatPieces) -> str:
    """What the chat template itself says where nobody gives a system message."""
    before, after = pieces.system
    text = pieces.opening
    if len(text) <= len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
        return ""
    return text[len(before) : len(text) - len(after)]


def parameters(settings: RunSettings, folder: Path, tokenizer: Any) -> dict[str, float]:
    """The run's temperature, and what the model's authors ask for beside it; where they ask for nothing, none of
    Ollama's own habits, since a penalty for repeating, say, changes also the likeliest answer."""
    generation = _generation_config(folder)
    found: dict[str, float] = {"temperature": settings.temperature}
    found |= {"top_p": generation.get("top_p") or 1.0, "top_k": generation.get("top_k") or 0}
    found["repeat_penalty"] = generation.get("repetition_penalty") or 1.0
    found["num_ctx"] = min(tokenizer.model_max_length, MOST_CONTEXT)
    return found


def ollama_name(text: str) -> str:
    """Lower case letters, digits and dashes, e.g. `fernhill-quick`; empty where the text has none of them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _pieces_of(tokenizer: Any) -> tuple[ChatPieces | None, list[str]]:
    """None with the reason where Ollama cannot be told; a template that is nearly right would be worse than none."""
    from sft_app.export.chat_template_parts import take_apart, template_notes

    try:
        pieces = take_apart(tokenizer)
    except ExportError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        return None, [
            f"This chat template cannot be written for Ollama: {reason}. Ollama picks a template itself, so compare "
            "`ollama show --template` with chat_template.jinja before you use the model."
        ]
    return pieces, template_notes(tokenizer, pieces)


def _generation_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError):
        return {}


def _stops(folder: Path, own: frozenset[int]) -> list[int]:
    given = _generation_config(folder).get("eos_token_id") or []
    return sorted(own | set(given if isinstance(given, list) else [given]))


def _is_writable(text: str) -> bool:
    return '"""' not in text and all(letter.isprintable() or letter in "\n\t" for letter in text)


def _go_text(text: str) -> str:
    """As text of a Go template, or as a string in it where the text would be read as something else or get lost."""
    if not text or (_is_writable(text) and "{" not in text and "}" not in text):
        return text
    return f'{{{{ "{"".join(map(_go_letter, text))}" }}}}'


def _go_letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter in "{}" or not (letter == " " or letter.isprintable()):
        return f"\\U{ord(letter):08x}"
    return letter
