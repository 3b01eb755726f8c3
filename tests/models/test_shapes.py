"""A model's shape, told without its weights, is that of the model with its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import ModelError
from sft_app.models.catalog import resolve_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import load_base, model_class
from sft_app.models.lora_targets import attach_lora
from sft_app.models.shapes import LinearShape, read_shape
from sft_app.settings import parse_settings
from tests.families.table import ANSWERING, FAMILIES, tiny_model


@pytest.fixture
def shape(tiny_model_dir: Path, home: Path) -> Any:
    return read_shape(resolve_model(str(tiny_model_dir), None, home), home)


def test_shape_of_the_tiny_model_by_hand(shape: Any):
    assert (shape.hidden_size, shape.intermediate_size, shape.layers) == (64, 128, 2)
    assert (shape.query_width, shape.key_width, shape.heads) == (64, 32, 4)
    first = [linear for linear in shape.linears if ".0." in linear.name]
    assert sorted((linear.inputs, linear.outputs) for linear in first) == sorted(
        [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    )
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
    assert shape.linear_weights == 2 * layer
    assert shape.parameters == 2 * layer + 2 * shape.vocabulary * 64 + 5 * 64  # embedding, head, norms


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"lora_r": 4},
        {"lora_r": 16, "lora_target_modules": "q_proj, v_proj"},
        {"lora_r": 4, "use_dora": True},
    ],
)
def test_trainable_numbers_are_those_of_the_model_in_memory(
    tiny_model_dir: Path, home: Path, shape: Any, settings: dict[str, Any]
):
    wanted = parse_settings({"method": "lora", **settings})
    model = load_base(resolve_model(str(tiny_model_dir), None, home), home, detect_hardware(), "float32")
    if wanted.method == "lora":
        model = attach_lora(model, wanted)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    else:
        trainable = sum(parameter.numel() for parameter in model.parameters())
    assert shape.trainable(wanted) == trainable


def test_target_names_stand_for_the_ends_of_full_names(shape: Any):
    targets = shape.targets(parse_settings({"lora_target_modules": "down_proj"}))
    assert [linear.name.split(".")[-1] for linear in targets] == ["down_proj"] * 2
    assert targets[0] == LinearShape(targets[0].name, 128, 64)


def test_model_that_transformers_does_not_know_is_told(tmp_path: Path, home: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "nothing-like-it"}))
    (folder / "model.safetensors").touch()
    with pytest.raises(ModelError, match="^The shape of .*odd cannot be determined: "):
        read_shape(resolve_model(str(folder), None, home), home)


@pytest.mark.parametrize("name", [*FAMILIES, *ANSWERING])
def test_every_family_has_a_shape(name: str, tmp_path: Path, home: Path):
    """Models without attention heads, with sizes of their own in each layer, or with older names for them."""
    model = tiny_model(name)
    model.config.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").touch()
    shape = read_shape(resolve_model(str(tmp_path / "model"), None, home), home)
    loaded = model_class(model.config).from_config(model.config)  # of some, the part for text alone
    assert shape.parameters == sum(weight.numel() for weight in loaded.parameters())
    for size in (shape.hidden_size, shape.intermediate_size, shape.layers, shape.query_width, shape.key_width):
        assert isinstance(size, int) and size > 0
    text = model.config.get_text_config()
    assert (shape.hidden_size, shape.vocabulary) == (text.hidden_size, text.vocab_size)
