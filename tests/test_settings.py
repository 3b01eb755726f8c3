"""Settings are checked when they are made, and every fault is told at once."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from sft_app.errors import SettingsError
from sft_app.settings import (
    EXAMPLE_DATA,
    EXAMPLE_PROMPT,
    PRESETS,
    DataSettings,
    Preset,
    RunSettings,
    Section,
    fields_of,
    parse_assignments,
    parse_settings,
)

NUMBERS = [name for name, field in RunSettings.model_fields.items() if field.annotation in (float, float | None)]


def test_nothing_given_is_a_valid_run():
    settings = parse_settings({})
    assert (settings.preset, settings.method, settings.trainer, settings.seed) == ("quick", "lora", "sft", 42)
    assert settings.watch_prompts == (EXAMPLE_PROMPT,)


def test_there_is_a_preset_for_every_name():
    assert set(PRESETS) == set(get_args(Preset))


@pytest.mark.parametrize("preset", get_args(Preset))
def test_preset_gives_the_values_that_are_not_given(preset: Preset):
    settings = parse_settings({"preset": preset})
    assert settings.preset == preset
    assert {name: getattr(settings, name) for name in PRESETS[preset]} == PRESETS[preset]


@pytest.mark.parametrize("preset", get_args(Preset))
def test_given_value_wins_over_the_preset(preset: Preset):
    settings = parse_settings({"preset": preset, "max_length": 77, "per_device_train_batch_size": 3})
    assert (settings.max_length, settings.per_device_train_batch_size) == (77, 3)


@pytest.mark.parametrize("preset", ["fast", "", None, 3])
def test_unknown_preset_is_refused_with_the_known_ones(preset: Any):
    with pytest.raises(SettingsError, match=r"^preset: got .*, expected one of quick, good, best\.$"):
        parse_settings({"preset": preset})


def test_every_fault_has_a_line_of_its_own():
    with pytest.raises(SettingsError) as caught:
        parse_settings({"lora_r": 0, "sed": 1, "method": "dora", "learning_rate": "fast"})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["method", "lora_r", "learning_rate", "sed"]
    assert lines[1] == "lora_r: Input should be greater than or equal to 1, got 0."
    assert lines[3] == "sed: there is no setting with this name."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", ""),
        ("name", "x" * 81),
        ("format", "sharegpt?"),
        ("columns", ("user=q",)),
        ("max_rows", 0),
        ("dataset_split", ""),
        ("reply_paths", "worst"),
        ("code_language", "python"),
        ("solutions_per_problem", 0),
        ("solutions_per_problem", 1001),
        ("heldout_fraction", 0.51),
        ("heldout_min", 0),
        ("max_length", 15),
        ("model", ""),
        ("dtype", "int8"),
        ("lora_dropout", 0.6),
        ("num_train_epochs", 0),
        ("max_steps", -2),
        ("learning_rate", 0.0),
        ("warmup_ratio", 0.6),
        ("per_device_train_batch_size", 0),
        ("per_device_train_batch_size", 1.5),
        ("packing", "perhaps"),
        ("eval_steps", 0),
        ("seed", -1),
        ("seed", 2**31),
        ("watch_prompts", ("?",) * 9),
        ("temperature", 2.1),
        ("max_new_tokens", 0),
    ],
)
def test_value_out_of_range_is_refused_by_name(name: str, value: Any):
    with pytest.raises(SettingsError, match=rf"^{name}: .*, got .*\.$"):
        parse_settings({name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_number_must_be_finite(name: str, value: float):
    with pytest.raises(SettingsError, match=f"^{name}: "):
        parse_settings({name: value})


def test_zero_steps_are_refused():
    """transformers reads 0 as "by epochs", the opposite of what it says."""
    with pytest.raises(SettingsError, match=r"^max_steps: "):
        parse_settings({"max_steps": 0})


def test_settings_cannot_be_changed_after_they_are_made():
    with pytest.raises(ValidationError, match="frozen"):
        RunSettings().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(("former", "now"), [("balanced", "good"), ("thorough", "best")])
def test_a_run_of_an_earlier_version_keeps_its_values_and_a_new_run_is_told_the_new_name(former: str, now: str):
    values = RunSettings().model_dump() | {"preset": former, "num_train_epochs": 5.0}
    assert RunSettings.model_validate(values).model_dump() == values | {"preset": now}
    with pytest.raises(SettingsError, match=rf"^preset: {former} no longer exists; the nearest is {now}\.$"):
        parse_settings({"preset": former})


def test_settings_come_back_the_same_from_json():
    settings = parse_settings({"preset": "best", "name": "Größe £5", "watch_prompts": ["a"], "revision": "main"})
    assert RunSettings.model_validate_json(settings.model_dump_json()) == settings
    assert parse_settings(settings.model_dump(mode="json")) == settings


def test_sections_hold_every_setting_once_in_the_order_written():
    assert [name for section in get_args(Section) for name in fields_of(section)] == list(RunSettings.model_fields)


@pytest.mark.parametrize("name", list(RunSettings.model_fields))
def test_every_setting_has_help_in_a_sentence(name: str):
    assert str(RunSettings.model_fields[name].description).endswith(".")


def test_assignments_are_read_as_the_setting_needs_them():
    values = parse_assignments(["max_steps=20", " packing = false ", "learning_rate=1e-4", "revision=none", "name=a=b"])
    settings = parse_settings(values)
    assert (settings.max_steps, settings.packing, settings.learning_rate) == (20, False, 1e-4)
    assert (settings.revision, settings.name) == (None, "a=b")


@pytest.mark.parametrize("text", ["learning_rate=", "learning_rate=none", "learning_rate= None "])
def test_empty_assignment_means_the_automatic_value(text: str):
    assert parse_settings({"learning_rate": 1e-5, **parse_assignments([text])}).learning_rate is None


@pytest.mark.parametrize("name", ["name", "system_prompt"])
def test_empty_assignment_empties_a_text(name: str):
    assert getattr(parse_settings(parse_assignments([f"{name}="])), name) == ""


def test_every_setting_can_be_assigned():
    values = parse_assignments(["watch_prompts=Where is my order?"])
    assert parse_settings(values).watch_prompts == ("Where is my order?",)


def test_assignment_without_equals_sign_is_refused():
    with pytest.raises(SettingsError, match=r"--set max_steps: expected NAME=VALUE"):
        parse_assignments(["seed=1", "max_steps"])


# data


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ((), {}),
        (("user=q", "assistant=a"), {"user": "q", "assistant": "a"}),
        (("assistant=a=b", "user= q "), {"assistant": "a=b", "user": " q "}),
        (
            ("user=q", "assistant=a", "system=s", "context=c"),
            {"user": "q", "assistant": "a", "system": "s", "context": "c"},
        ),
    ],
)
def test_columns_are_named_by_what_they_hold(columns: tuple[str, ...], expected: dict[str, str]):
    assert parse_settings({"columns": columns}).column_map() == expected


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("question", r"'question' is not ROLE=COLUMN, where ROLE is one of user, assistant, system, context"),
        (("bot=q", "assistant=a"), r"'bot=q' is not ROLE=COLUMN"),
        (("user=", "assistant=a"), r"'user=' is not ROLE=COLUMN"),
        (("user=q", "user=r", "assistant=a"), "a role is given twice"),
        (("user=q",), "both user=COLUMN and assistant=COLUMN are required"),
        (("assistant=a", "system=s"), "both user=COLUMN and assistant=COLUMN are required"),
        (("user=q", "assistant=a", "system=s", "context=c", "user=r"), "at most 4 items"),
    ],
)
def test_columns_that_do_not_fit_are_told(columns: Any, reason: str):
    with pytest.raises(SettingsError, match=f"^columns: .*{reason}"):
        parse_settings({"columns": columns})


@pytest.mark.parametrize("name", ["max_rows", "dataset_config", "dataset_revision"])
def test_empty_assignment_of_a_data_setting_means_none(name: str):
    assert getattr(parse_settings(parse_assignments([f"{name}="])), name) is None


def test_reading_is_the_data_settings_of_a_run_and_nothing_else():
    given = {"data": "a.csv", "format": "columns", "columns": ("user=q", "assistant=a"), "max_rows": 9, "seed": 1}
    reading = parse_settings(given).reading()
    assert reading == DataSettings(data="a.csv", format="columns", columns=("user=q", "assistant=a"), max_rows=9)
    assert type(reading) is DataSettings
    assert reading.reading() == reading


def test_every_row_of_the_example_is_read_when_nothing_is_said():
    assert DataSettings().model_dump() == {
        "data": EXAMPLE_DATA,
        "format": "auto",
        "columns": (),
        "max_rows": None,
        "dataset_config": None,
        "dataset_split": "train",
        "dataset_revision": None,
        "sheet": None,
        "assistant": "",
        "reasoning": "keep",
        "reply_paths": "best",
        "text_language": "",
        "code_language": "python3",
        "solutions_per_problem": 1,
    }


@pytest.mark.parametrize(
    ("pasted", "data"),
    [
        (' "my file.csv"\n', "my file.csv"),
        ("'a.csv'", "a.csv"),
        ("https://huggingface.co/datasets/ann/faq", "ann/faq"),
        ("huggingface.co/datasets/ann/faq/viewer?row=3", "ann/faq"),
        ("https://hf.co/datasets/ann/faq-1.5/tree/main", "ann/faq-1.5"),
        ("datasets/ann/faq", "ann/faq"),
        ("datasets/ann/faq.csv", "datasets/ann/faq.csv"),
        ("https://huggingface.co/datasets/ann/faq/resolve/main/a.csv", None),
        ("https://huggingface.co/ann/faq", None),
        ("it's.csv", None),
    ],
)
def test_pasted_source_is_the_file_or_id_in_it(pasted: str, data: str | None):
    assert DataSettings(data=pasted).data == (data or pasted)


def test_fault_is_told_without_the_words_of_the_checking_library() -> None:
    told = r"^columns: 'user' is not ROLE=COLUMN, where ROLE is one of user, assistant, system, context, got 'user'\.$"
    with pytest.raises(SettingsError, match=told):
        parse_settings({"columns": "user"})
    with pytest.raises(SettingsError, match=r"^columns: Input should be a list, got \{'user': 'x'\}\.$"):
        parse_settings({"columns": {"user": "x"}})


def test_setting_of_an_earlier_version_is_told_as_such() -> None:
    with pytest.raises(SettingsError, match="torch_compile: this setting no longer exists, because it had no effect"):
        parse_settings({"torch_compile": True})
