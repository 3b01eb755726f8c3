"""What a model card says that a report does not: how to load it, its limits, its licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from sft_app.export.report_facts import ReportFacts
from sft_app.export.report_settings import data_name, public_model
from sft_app.models.catalog import HUB, LOCAL_FOLDER
from sft_app.runs.records import RunRecord
from sft_app.settings import EXAMPLE_DATA, EXAMPLE_PROMPT

Kind = Literal["adapter", "full", "merged"]
KINDS: dict[Kind, str] = {
    "adapter": "A LoRA adapter, to be loaded on top of its base model:",
    "full": "A full model, with every weight trained:",
    "merged": "A full model with a LoRA adapter merged into it:",
}
MADE_UP = (
    "It writes what is likely, which is not always true, and has the gaps and biases of its base model and its data. "
    "Have a person check answers that matter."
)


def loading_code(kind: Kind, base: str, name: str, revision: str | None = None) -> str:
    """Three lines that load it, on the very revision of its base that it was trained on.

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


def asking_code(record: RunRecord, name: str) -> str:
    """What one writes below that to get an answer, asked as in Compare."""
    settings = record.settings
    prompt = next(iter(settings.watch_prompts), EXAMPLE_PROMPT)
    if record.source.format == "text":  # learnt without a chat template
        asked = f'inputs = tokenizer({_code(prompt)}, return_tensors="pt")'
    else:
        turns = [{"role": "system", "content": settings.system_prompt}] if settings.system_prompt else []
        turns += [{"role": "user", "content": prompt}]
        asked = (
            f"messages = {_code(turns)}\n"
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
            ")"
        )
    return (
        "from transformers import AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({_code(name)})\n"
        f"{asked}\n"
        "answer = model.generate(**inputs.to(model.device), max_new_tokens=200, do_sample=False)\n"
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )


def base_hint(record: RunRecord, kind: Kind) -> str:
    """What to do about a base that others cannot load by the name that stands in the code."""
    if kind != "adapter" or record.model.source != LOCAL_FOLDER:
        return ""
    return (
        f"The base model was a folder named {public_model(record)}, which is not on the Hub. Use the path "
        f"of your copy instead."
    )


def limits(record: RunRecord, facts: ReportFacts) -> list[str]:
    """In plain words, for whoever thinks of using it."""
    settings, source = record.settings, record.model.source
    found = [MADE_UP]
    if facts.scores:
        elsewhere = "" if facts.forgetting else " How it answers other questions is unknown."
        found += [f"It was measured on held-out examples from its own data.{elsewhere}"]
    else:
        found += ["No one has measured yet what it does better or worse than its base model."]
    found += [f"It was checked for forgetting. {facts.forgetting.note}"] if facts.forgetting else []
    if settings.system_prompt:
        found += ["The answers here were generated with the system prompt above; without it they can differ."]
    if settings.max_length:
        found += [f"It was trained on conversations of up to {settings.max_length:,} tokens, not on longer ones."]
    if settings.method == "qlora":
        found += [
            "It was trained on its base model in 4 bits. On the base model in full precision, "
            "answers can differ slightly."
        ]
    if source not in (LOCAL_FOLDER, HUB):
        copy = f"It was trained on a copy of its base model: {source}."
        found += [f"{copy} On the base model from the Hub, answers can differ slightly."]
    return found


def licence_sentences(record: RunRecord, licence: Mapping[str, str]) -> list[str]:
    """Of the base model, whose licence holds for what is made from it, and of the data."""
    base, data = public_model(record), data_name(record)
    known = licence.get("license_name") or licence.get("license")
    found = [
        f"The base model {base} has the licence {known}, which also applies to models made from it."
        if known
        else f"The licence of the base model {base} is unknown. Look it up before you share this model."
    ]
    of_data = "apache-2.0" if record.settings.data == EXAMPLE_DATA else record.source.hub.get("licence")
    told = f"has the licence {of_data}" if of_data else "has no known licence"
    return [*found, f"The data {data} {told}."]


def _code(value: Any) -> str:
    """A literal of Python."""
    return json.dumps(value, ensure_ascii=False)
