"""The model card of a run: the README.md that goes with its adapter or its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft_app.errors import ExportError
from sft_app.export.card_words import KINDS, Kind, asking_code, base_hint, licence_sentences, limits, loading_code
from sft_app.export.markdown import render_markdown
from sft_app.export.report_facts import gather_facts
from sft_app.export.report_pairs import pairs_of, watched_pairs
from sft_app.export.report_settings import public_model
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import LOCAL_FOLDER, recorded_model
from sft_app.models.licence import licence_of
from sft_app.models.loading import holds_full_model
from sft_app.runs.folder import Run
from sft_app.runs.records import RunRecord
from sft_app.settings import EXAMPLE_DATA

TAGS = {"qlora": ["lora", "qlora"], "lora": ["lora"], "full": []}
PAIRS = 3


def model_card(
    run: Run, name: str, kind: Kind | None = None, notes: Sequence[str] = (), chosen: Sequence[str] | None = None
) -> str:
    """README.md with its metadata; `name` is what the code in it loads: USER/NAME, or a folder.

    `kind` is by default what the run has saved, `notes` are sentences for the top, `chosen` the ids of answer pairs.
    By default no row of somebody's data is shown: the pairs are those of prompts that were watched.

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
        kind_told=KINDS[kind],
        loading=loading_code(kind, public_model(record), name, record.model.revision),
        asking=asking_code(record, name),
        base_hint=base_hint(record, kind),
        limits=limits(record, facts),
        licences=licence_sentences(record, licence),
    )
    return f"---\n{_metadata(record, kind, licence)}\n---\n\n{body}"


def saved_kind(run: Run) -> Kind:
    """What the run has saved: an adapter or a whole model."""
    return "full" if holds_full_model(run.adapter_dir) else "adapter"


def default_pairs(run: Run) -> list[str]:
    """Those of the bundled example; of other data, also of the Hub's, which may be private, what was typed in."""
    is_public = run.record().settings.data == EXAMPLE_DATA
    return [pair.id for pair in (pairs_of(run) if is_public else watched_pairs(run))[:PAIRS]]


def _metadata(record: RunRecord, kind: Kind, licence: dict[str, str]) -> str:
    """What the Hub reads. A base that is no repository of the Hub is only told in words."""
    from huggingface_hub import ModelCardData

    base = public_model(record)
    told: dict[str, Any] = dict(licence)
    if record.model.source != LOCAL_FOLDER and is_hub_id(base):
        told |= {"base_model": base, "base_model_relation": "adapter" if kind == "adapter" else "finetune"}
    data = ModelCardData(
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        datasets=[record.settings.data] if record.source.hub else None,
        tags=[*(["trl"] if record.settings.trainer == "sft" else []), "sft", *TAGS[record.settings.method]],
        **told,
    )
    return data.to_yaml()


def _licence(run: Run) -> dict[str, str]:
    """The base's. A link to a file beside its card is made one that leads there from anywhere."""
    ref = recorded_model(run)
    found = licence_of(ref)
    link = found.get("license_link")
    if link and "://" not in link and is_hub_id(ref.public_id):
        found = {**found, "license_link": f"https://huggingface.co/{ref.public_id}/blob/main/{link}"}
    return found
