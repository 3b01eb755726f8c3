"""Write the model card of a run: the README.md of its adapter or its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sft_app.data.chat_templates import stored_chat_template, thinking_variables
from sft_app.errors import ExportError
from sft_app.evaluation.answer_pairs import collect_pairs, watched_pairs
from sft_app.export.markdown import render_markdown
from sft_app.export.public_facts import data_name, public_model
from sft_app.export.report_facts import ReportFacts, gather_facts
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import HUB, LOCAL_FOLDER, recorded_model
from sft_app.models.licence import read_licence
from sft_app.models.loading import holds_full_model
from sft_app.runs.folder import Run
from sft_app.runs.records import RunRecord
from sft_app.settings import EXAMPLE_DATA, EXAMPLE_PROMPT

METHOD_TAGS = {"qlora": ["lora", "qlora"], "lora": ["lora"], "full": []}
MAX_PAIRS = 3
CardKind = Literal["adapter", "full", "merged"]
KIND_SENTENCES: dict[CardKind, str] = {
    "adapter": "A LoRA adapter, to be loaded on top of its base model:",
    "full": "A full model, with every weight trained:",
    "merged": "A full model with a LoRA adapter merged into it:",
}
ACCURACY_WARNING = (
    "It writes what is likely, which is not always true, and has the gaps and biases of its base model and its data. "
    "Have a person check answers that matter."
)


def model_card(
    run: Run, name: str, kind: CardKind | None = None, notes: Sequence[str] = (), chosen: Sequence[str] | None = None
) -> str:
    """Write README.md with its metadata. `name` is what its code loads: USER/NAME, or a folder.

    `kind` defaults to what the run has saved, `notes` are sentences for the top, `chosen` the ids of answer pairs. By
    default no row of a user's data is shown: the pairs are those of watch prompts.

    Raises:
        ExportError: the run has saved nothing yet.
        RunError: its settings cannot be read.
    """
    if not run.has_adapter():
        raise ExportError(f"Run {run.id} is {run.status().state} and has no adapter to describe yet.")
    record = run.record()
    kind = kind or saved_kind(run)
    facts = gather_facts(run, default_pairs(run) if chosen is None else chosen)
    licence = _licence(run)
    body = render_markdown(
        "card.md.jinja",
        facts=facts,
        pairs=facts.pairs,
        notes=notes,
        kind_description=KIND_SENTENCES[kind],
        loading=loading_code(kind, public_model(record), name, record.model.revision),
        generation=generation_code(record, name, stored_chat_template(run.adapter_dir)),
        base_hint=base_hint(record, kind),
        limitations=limitations(record, facts),
        licences=licence_sentences(record, licence),
    )
    return f"---\n{_metadata(record, kind, licence)}\n---\n\n{body}"


def saved_kind(run: Run) -> CardKind:
    """Return what the run has saved: an adapter or a full model."""
    return "full" if holds_full_model(run.adapter_dir) else "adapter"


def default_pairs(run: Run) -> list[str]:
    """Return the ids of pairs to show: any for the bundled example, otherwise only prompts the user typed.

    Data on the Hub may be private too.
    """
    is_public = run.record().settings.data == EXAMPLE_DATA
    return [pair.id for pair in (collect_pairs(run) if is_public else watched_pairs(run))[:MAX_PAIRS]]


def _metadata(record: RunRecord, kind: CardKind, licence: dict[str, str]) -> str:
    """Return the metadata the Hub reads. A base that is not on the Hub is named only in the text."""
    from huggingface_hub import ModelCardData

    base = public_model(record)
    fields: dict[str, Any] = dict(licence)
    if record.model.source != LOCAL_FOLDER and is_hub_id(base):
        fields |= {"base_model": base, "base_model_relation": "adapter" if kind == "adapter" else "finetune"}
    data = ModelCardData(
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        datasets=[record.settings.data] if record.source.hub else None,
        tags=[*(["trl"] if record.settings.trainer == "sft" else []), "sft", *METHOD_TAGS[record.settings.method]],
        **fields,
    )
    return data.to_yaml()


def _licence(run: Run) -> dict[str, str]:
    """Return the base's licence; a relative link to its file becomes absolute."""
    ref = recorded_model(run)
    licence = read_licence(ref)
    link = licence.get("license_link")
    if link and "://" not in link and is_hub_id(ref.public_id):
        licence = {**licence, "license_link": f"https://huggingface.co/{ref.public_id}/blob/main/{link}"}
    return licence


def loading_code(kind: CardKind, base: str, name: str, revision: str | None = None) -> str:
    """Return three lines of code that load the model, on the revision of its base that it was trained on.

    PEFT's `AutoPeftModelForCausalLM` would resize the embeddings of a base that has spare ones.
    """
    if kind == "adapter":
        which = _code(base) + (f", revision={_code(revision)}" if revision else "")
        return (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM\n"
            f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({which}), {_code(name)})"
        )
    return (
        f"from transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained({_code(name)})"
    )


def generation_code(record: RunRecord, name: str, chat_template: str = "") -> str:
    """Return code that generates an answer as Compare does. `chat_template` is the text of the saved one."""
    settings = record.settings
    thinking = "".join(f"{name}={settings.enable_thinking}, " for name in thinking_variables(chat_template))
    prompt = next(iter(settings.watch_prompts), EXAMPLE_PROMPT)
    if record.source.format == "text":  # trained without a chat template
        encode_prompt = f'inputs = tokenizer({_code(prompt)}, return_tensors="pt")'
    else:
        turns = [{"role": "system", "content": settings.system_prompt}] if settings.system_prompt else []
        turns += [{"role": "user", "content": prompt}]
        encode_prompt = (
            f"messages = {_code(turns)}\n"
            "inputs = tokenizer.apply_chat_template(\n"
            f'    messages, add_generation_prompt=True, {thinking}return_dict=True, return_tensors="pt"\n'
            ")"
        )
    options = ["max_new_tokens=200", "do_sample=False"]
    if settings.chat_template:  # a base model's generation_config does not name its end token
        options.append("eos_token_id=tokenizer.eos_token_id")
    return (
        "from transformers import AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({_code(name)})\n"
        f"{encode_prompt}\n"
        f"answer = model.generate(**inputs.to(model.device), {', '.join(options)})\n"
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )


def base_hint(record: RunRecord, kind: CardKind) -> str:
    """Explain what to do about a base that others cannot load by the name in the code."""
    if kind != "adapter" or record.model.source != LOCAL_FOLDER:
        return ""
    return (
        f"The base model was a folder named {public_model(record)}, which is not on the Hub. Use the path "
        f"of your copy instead."
    )


def limitations(record: RunRecord, facts: ReportFacts) -> list[str]:
    """List the model's limitations in plain words."""
    settings, source = record.settings, record.model.source
    sentences = [ACCURACY_WARNING]
    if facts.scores:
        elsewhere = "" if facts.forgetting else " How it answers other questions is unknown."
        measured_on = "conversations of a separate file" if settings.heldout_data else "examples from its own data"
        sentences += [f"It was measured on held-out {measured_on}.{elsewhere}"]
    else:
        sentences += ["No one has measured yet what it does better or worse than its base model."]
    sentences += [f"It was checked for forgetting. {facts.forgetting.note}"] if facts.forgetting else []
    if settings.system_prompt:
        sentences += ["The answers here were generated with the system prompt above; without it they can differ."]
    if settings.max_length:
        sentences += [f"It was trained on conversations of up to {settings.max_length:,} tokens, not on longer ones."]
    if settings.method == "qlora":
        sentences += [
            "It was trained on its base model in 4 bits. On the base model in full precision, "
            "answers can differ slightly."
        ]
    if source not in (LOCAL_FOLDER, HUB):
        copy = f"It was trained on a copy of its base model: {source}."
        sentences += [f"{copy} On the base model from the Hub, answers can differ slightly."]
    return sentences


def licence_sentences(record: RunRecord, licence: Mapping[str, str]) -> list[str]:
    """Describe the licences of the base model, which also covers models made from it, and of the data."""
    base, data = public_model(record), data_name(record)
    known = licence.get("license_name") or licence.get("license")
    sentences = [
        f"The base model {base} has the licence {known}, which also applies to models made from it."
        if known
        else f"The licence of the base model {base} is unknown. Look it up before you share this model."
    ]
    of_data = "apache-2.0" if record.settings.data == EXAMPLE_DATA else record.source.hub.get("licence")
    fields = f"has the licence {of_data}" if of_data else "has no known licence"
    return [*sentences, f"The data {data} {fields}."]


def _code(value: Any) -> str:
    """Return the value as a Python literal."""
    return json.dumps(value, ensure_ascii=False)
