"""Into memory: dtypes, 4-bit, adapters; and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sft_app.errors import ModelError
from sft_app.models.adapters import load_adapter, read_adapter_config
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import (
    free_memory,
    holds_full_model,
    keep_4bit_differentiable,
    linear_4bit_layers,
    load_base,
    load_tokenizer,
)
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings

CPU = Hardware("cpu", "test", "float32", "", 1.0, 1.0, 1)
LINEAR_LAYERS = 14  # 2 layers of 7; the head stays as it is


@pytest.fixture
def ref(tiny_model_dir: Path) -> ModelRef:
    return ModelRef("tiny", str(tiny_model_dir), None, "local folder")


def random_lora(base: Any, **settings: Any) -> Any:
    """An adapter with an effect, so that every one of its weights has a gradient."""
    torch.manual_seed(7)
    model = attach_lora(base, parse_settings({"lora_r": 4, **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_base_has_the_asked_dtype_and_is_not_training(ref: ModelRef, home: Path, dtype: str) -> None:
    model = load_base(ref, home, CPU, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert not model.training


def test_auto_dtype_is_the_machines(ref: ModelRef, home: Path) -> None:
    machine = Hardware("cpu", "test", "bfloat16", "", 1.0, 1.0, 1)
    assert load_base(ref, home, machine).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_4bit_is_nf4_with_double_quantisation_and_computes_in_the_dtype(
    ref: ModelRef, home: Path, dtype: torch.dtype
) -> None:
    model = load_base(ref, home, CPU, str(dtype).removeprefix("torch."), in_4bit=True)
    layers = list(linear_4bit_layers(model))
    assert len(layers) == LINEAR_LAYERS
    for layer in layers:
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == dtype
    assert type(model.lm_head) is torch.nn.Linear


@pytest.mark.parametrize(("text", "is_shortage"), [("CUDA out of memory. Tried to", True), ("an odd shape", False)])
def test_lack_of_memory_that_transformers_reports_as_another_error_is_found(
    ref: ModelRef, home: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_shortage: bool
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError(text) if is_shortage else RuntimeError(text)

    monkeypatch.setattr("transformers.integrations.bitsandbytes.Bnb4bitQuantize.convert", fail)
    with pytest.raises(RuntimeError) as caught:
        load_base(ref, home, CPU, in_4bit=True)
    assert isinstance(caught.value, torch.OutOfMemoryError) == is_shortage
    assert not is_shortage or str(caught.value).startswith("out of memory. Tried to")


def test_4bit_base_is_near_the_base(ref: ModelRef, home: Path) -> None:
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        exact, quantised = (load_base(ref, home, CPU, in_4bit=on)(ids).logits for on in (False, True))
    assert 0 < (quantised - exact).norm() / exact.norm() < 0.3


@pytest.fixture
def fast_cpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes believes in AVX-512 bf16, whether or not this machine has it: the trap is set everywhere."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    """Of the adapter, for one fixed batch, in training mode."""
    model.train()
    model.zero_grad()
    ids = torch.arange(5, 60)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_evaluation_does_not_change_the_gradients_of_a_4bit_model(
    ref: ModelRef, home: Path, fast_cpu_path: None, dtype: str
) -> None:
    """Train, evaluate and answer, train again: the trap of bitsandbytes 0.50 on CPUs with AVX-512 bf16."""
    from sft_app.inference.generation import Sampling, generate_tokens

    base = load_base(ref, home, CPU, dtype, in_4bit=True)
    keep_4bit_differentiable(base, True)
    model = random_lora(base)
    before = gradients_of(model)
    packed = [layer.weight.data.clone() for layer in linear_4bit_layers(model)]
    model.eval()
    with torch.no_grad():
        model(torch.arange(5, 60)[None])
    list(generate_tokens(model, [[5, 6, 7]], Sampling(max_new_tokens=3), (), 0))
    after = gradients_of(model)
    assert len(before) == 2 * LINEAR_LAYERS
    assert all(gradient.abs().sum() > 0 for gradient in before.values())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for weight, layer in zip(packed, linear_4bit_layers(model), strict=True):
        assert torch.equal(weight, layer.weight.data)


def test_fast_path_is_off_for_training_and_on_again_after_it(ref: ModelRef, home: Path, fast_cpu_path: None) -> None:
    model = load_base(ref, home, CPU, in_4bit=True)
    assert all(layer.support_avx512bf16_for_cpu for layer in linear_4bit_layers(model))
    keep_4bit_differentiable(model, True)
    assert not any(layer.support_avx512bf16_for_cpu for layer in linear_4bit_layers(model))
    keep_4bit_differentiable(model, False)
    assert all(layer.support_avx512bf16_for_cpu for layer in linear_4bit_layers(model))


def test_fast_path_stays_off_where_the_cpu_has_none(ref: ModelRef, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    model = load_base(ref, home, CPU, in_4bit=True)
    keep_4bit_differentiable(model, False)
    assert not any(layer.support_avx512bf16_for_cpu for layer in linear_4bit_layers(model))


def test_fresh_adapter_changes_nothing_and_alone_is_trained(ref: ModelRef, home: Path) -> None:
    ids = torch.arange(5, 60)[None]
    base = load_base(ref, home, CPU)
    with torch.no_grad():
        before = base(ids).logits
        model = attach_lora(base, parse_settings({"lora_r": 4})).eval()
        assert torch.equal(model(ids).logits, before)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * LINEAR_LAYERS
    assert all("lora_" in name for name in trained)


def test_target_modules_are_the_named_ones(ref: ModelRef, home: Path) -> None:
    settings = parse_settings({"lora_target_modules": " q_proj, v_proj ,", "lora_r": 3, "lora_alpha": 5})
    model = attach_lora(load_base(ref, home, CPU), settings)
    trained = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, w in model.named_parameters() if w.requires_grad}
    assert trained == {"q_proj", "v_proj"}
    assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (3, 5)


def test_rslora_scale_is_alpha_over_the_root_of_the_rank(ref: ModelRef, home: Path) -> None:
    for use_rslora, expected in ((True, 32 / 64**0.5), (False, 32 / 64)):
        settings = parse_settings({"lora_r": 64, "lora_alpha": 32, "use_rslora": use_rslora})
        model = attach_lora(load_base(ref, home, CPU), settings)
        assert {layer.scaling["default"] for layer in model.modules() if hasattr(layer, "lora_A")} == {expected}


@pytest.mark.parametrize("in_4bit", [False, True])
def test_fresh_dora_changes_nothing_and_every_part_of_it_learns(ref: ModelRef, home: Path, in_4bit: bool) -> None:
    ids = torch.arange(5, 60)[None]
    base = load_trainable_base(ref, home, in_4bit)
    with torch.no_grad():
        before = base(ids).logits
        model = random_lora(base, use_dora=True).eval()
        with model.disable_adapter():
            assert torch.equal(model(ids).logits, before)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.zero_()
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-4)
    model = random_lora(load_trainable_base(ref, home, in_4bit), use_dora=True)
    model(ids, labels=ids).loss.backward()
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    assert sum("magnitude" in name for name in trained) == LINEAR_LAYERS
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in trained.values())


def load_trainable_base(ref: ModelRef, home: Path, in_4bit: bool) -> Any:
    base = load_base(ref, home, CPU, "float32", in_4bit=in_4bit)
    keep_4bit_differentiable(base, True)
    return base


@pytest.mark.parametrize("names", ["no_such_proj", "norm_x,y", ","])
def test_target_modules_that_do_not_exist_are_refused_by_name(ref: ModelRef, home: Path, names: str) -> None:
    with pytest.raises(ModelError, match=f"lora_target_modules '{names}': ") as got:
        attach_lora(load_base(ref, home, CPU), parse_settings({"lora_target_modules": names}))
    assert "\n" not in str(got.value)


def test_target_module_that_cannot_carry_an_adapter_is_refused(ref: ModelRef, home: Path) -> None:
    with pytest.raises(ModelError, match="lora_target_modules 'input_layernorm': "):
        attach_lora(load_base(ref, home, CPU), parse_settings({"lora_target_modules": "input_layernorm"}))


@pytest.fixture
def adapter_dir(ref: ModelRef, home: Path, tmp_path: Path) -> Path:
    random_lora(load_base(ref, home, CPU)).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_saved_adapter_comes_back(ref: ModelRef, home: Path, adapter_dir: Path) -> None:
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        expected = random_lora(load_base(ref, home, CPU)).eval()(ids).logits
        loaded = load_adapter(load_base(ref, home, CPU), adapter_dir)
        assert torch.equal(loaded(ids).logits, expected)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert read_adapter_config(adapter_dir)["r"] == 4
    assert not holds_full_model(adapter_dir)


def test_adapter_folder_without_safetensors_is_refused(ref: ModelRef, home: Path, adapter_dir: Path) -> None:
    (adapter_dir / "adapter_model.safetensors").rename(adapter_dir / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter has no adapter_model\.safetensors"):
        load_adapter(load_base(ref, home, CPU), adapter_dir)


@pytest.fixture
def make_other_model(tmp_path: Path, tiny_model_dir: Path) -> Callable[..., ModelRef]:
    """A model like the tiny one except for these values of its config."""

    def make(**changes: Any) -> ModelRef:
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = shutil.copytree(tiny_model_dir, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors"))
        config = AutoConfig.from_pretrained(tiny_model_dir)
        config.update(changes)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return ModelRef("other", str(folder), None, "local folder")

    return make


def test_adapter_of_a_wider_model_is_refused(
    make_other_model: Callable[..., ModelRef], home: Path, adapter_dir: Path
) -> None:
    with pytest.raises(ModelError, match="The adapter does not fit this base model: ") as got:
        load_adapter(load_base(make_other_model(hidden_size=96), home, CPU), adapter_dir)
    assert "\n" not in str(got.value)


@pytest.mark.parametrize("layers", [1, 3])
def test_adapter_of_a_model_of_another_depth_is_refused(
    make_other_model: Callable[..., ModelRef], ref: ModelRef, home: Path, tmp_path: Path, layers: int
) -> None:
    """With modules named by their kind; an adapter that names each module fits every deeper model."""
    adapter_dir = tmp_path / "by-kind"
    settings = parse_settings({"lora_target_modules": "q_proj,v_proj"})
    attach_lora(load_base(ref, home, CPU), settings).save_pretrained(adapter_dir)
    with pytest.raises(ModelError, match="The adapter does not fit this base model: "):
        load_adapter(load_base(make_other_model(num_hidden_layers=layers), home, CPU), adapter_dir)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_replication": [[0, 1], [0, 2], [0, 2]]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"bias": "all"},
        {"megatron_config": {"x": 1}, "megatron_core": "antigravity"},
    ],
)
def test_adapter_that_would_change_the_base_is_refused(
    ref: ModelRef, home: Path, adapter_dir: Path, changes: dict[str, Any]
) -> None:
    """The base answers for everybody, and is what the adapter is compared with."""
    config = json.loads((adapter_dir / "adapter_config.json").read_text())
    (adapter_dir / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    base = load_base(ref, home, CPU)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    with pytest.raises(ModelError, match=f"its {next(iter(changes))} is .*, which would change the base model"):
        load_adapter(base, adapter_dir)
    after = base.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_adapter_whose_file_is_cut_is_refused(ref: ModelRef, home: Path, adapter_dir: Path) -> None:
    weights = adapter_dir / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="The adapter does not fit|cannot be read"):
        load_adapter(load_base(ref, home, CPU), adapter_dir)


def test_adapter_without_its_config_is_refused(ref: ModelRef, home: Path, adapter_dir: Path) -> None:
    (adapter_dir / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="adapter"):
        load_adapter(load_base(ref, home, CPU), adapter_dir)


def test_base_whose_weights_are_cut_is_refused(tiny_model_dir: Path, tmp_path: Path, home: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ModelError, match="cut cannot be loaded: ") as got:
        load_base(ModelRef("cut", str(folder), None, "local folder"), home, CPU)
    assert "\n" not in str(got.value)


def test_base_of_an_unknown_kind_is_refused(tiny_model_dir: Path, tmp_path: Path, home: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such_model"}))
    with pytest.raises(ModelError, match="odd cannot be loaded: .*no_such_model"):
        load_base(ModelRef("odd", str(folder), None, "local folder"), home, CPU)


def test_code_of_a_model_is_never_run(tiny_model_dir: Path, tmp_path: Path, home: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ModelError, match="code cannot be loaded: "):
        load_base(ModelRef("code", str(folder), None, "local folder"), home, CPU)
    assert not (tmp_path / "ran").exists()


def test_model_without_tokenizer_is_refused(tiny_model_dir: Path, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "mute"
    folder.mkdir()
    shutil.copy(tiny_model_dir / "config.json", folder)
    with pytest.raises(ModelError, match="The tokenizer of mute cannot be loaded: "):
        load_tokenizer(ModelRef("mute", str(folder), None, "local folder"), home)


def save_tokenizer(tokenizer: Any, folder: Path) -> ModelRef:
    tokenizer.save_pretrained(folder)
    return ModelRef(folder.name, str(folder), None, "local folder")


def test_tokenizer_without_end_of_sequence_is_refused(tmp_path: Path, home: Path, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="endless has no end-of-sequence token, so no answer could ever end"):
        load_tokenizer(save_tokenizer(tokenizer, tmp_path / "endless"), home)


def test_tokenizer_without_padding_pads_with_its_end(tmp_path: Path, home: Path, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.pad_token = None
    loaded = load_tokenizer(save_tokenizer(tokenizer, tmp_path / "unpadded"), home)
    assert loaded.pad_token_id == loaded.eos_token_id == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_adapter_with_a_number_that_is_none_is_refused(
    ref: ModelRef, home: Path, adapter_dir: Path, bad: float
) -> None:
    """And the base is as it was, so that it can answer and carry another adapter."""
    file, base = adapter_dir / "adapter_model.safetensors", load_base(ref, home, CPU)
    whole = load_file(file)
    name = sorted(whole)[3]
    spoiled = {key: tensor.clone() for key, tensor in whole.items()}
    spoiled[name].view(-1)[-1] = bad
    save_file(spoiled, file)
    with pytest.raises(ModelError, match=rf"is broken: {name} contains numbers that are not finite. Train again"):
        load_adapter(base, adapter_dir)
    assert not hasattr(base, "peft_config")
    save_file(whole, file)
    assert load_adapter(base, adapter_dir).peft_config


@pytest.mark.parametrize("in_4bit", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_model_with_a_number_that_is_none_is_refused(
    tiny_model_dir: Path, tmp_path: Path, home: Path, bad: float, in_4bit: bool
) -> None:
    """A whole fine-tune, a merged model, a base: in any precision, also where it is rounded to 4 bits."""
    spoil(tiny_model_dir, tmp_path, bad)
    with pytest.raises(ModelError, match="broken is broken: .*up_proj.weight contains numbers that are not finite"):
        load_base(ModelRef("broken", str(tmp_path), None, "local folder"), home, CPU, in_4bit=in_4bit)


def test_model_whose_weights_overflow_in_a_narrower_precision_is_refused(
    tiny_model_dir: Path, tmp_path: Path, home: Path
) -> None:
    spoil(tiny_model_dir, tmp_path, 1e6)
    ref = ModelRef("large", str(tmp_path), None, "local folder")
    assert load_base(ref, home, CPU, "bfloat16")
    with pytest.raises(ModelError, match="not finite in float16"):
        load_base(ref, home, CPU, "float16")


def spoil(model_dir: Path, folder: Path, bad: float) -> None:
    """A copy of the model with this number in one of its weights."""
    shutil.copytree(model_dir, folder, dirs_exist_ok=True)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = bad
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lora_alpha": "32"}, "lora_alpha: Input should be a valid number"),
        ({"lora_alpha": None}, "lora_alpha: "),
        ({"lora_alpha": float("nan")}, "lora_alpha: Input should be a finite number"),
        ({"lora_alpha": float("inf")}, "lora_alpha: "),
        ({"lora_alpha": 1e39}, "lora_alpha: "),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern: "),
        ({"r": 0}, "r: "),
        ({"r": "x"}, "r: "),
        ({"lora_dropout": "a"}, "lora_dropout: "),
        ({"target_modules": 5}, "target_modules: "),
        ({"target_modules": "((("}, "target_modules: .* is not a regular expression"),
        ({"rank_pattern": [1]}, "rank_pattern: "),
        ({"modules_to_save": ["lm_head"]}, "does not fit"),
        ({"trainable_token_indices": [1, 2]}, "does not fit"),
        ({"target_modules": ["nope"]}, "does not fit"),
    ],
)
@pytest.mark.parametrize("beside_another", [False, True])
def test_an_adapter_with_broken_settings_is_refused_and_leaves_no_trace(
    ref: ModelRef,
    home: Path,
    adapter_dir: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    told: str,
    beside_another: bool,
) -> None:
    broken = shutil.copytree(adapter_dir, tmp_path / "broken")
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    model = load_base(ref, home, CPU)
    if beside_another:
        model = load_adapter(model, adapter_dir, "first")
    before = list(model.state_dict())
    with pytest.raises(ModelError, match=told) as got:
        load_adapter(model, broken, "second")
    assert "\n" not in str(got.value)
    assert list(model.state_dict()) == before
    assert load_adapter(model, adapter_dir, "third").peft_config["third"].r == config["r"]


def test_an_adapter_with_a_flat_factor_is_refused(ref: ModelRef, home: Path, adapter_dir: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter_dir / "adapter_model.safetensors")
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first].flatten()}, adapter_dir / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="must have two dimensions, got 1"):
        load_adapter(load_base(ref, home, CPU), adapter_dir)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_memory_of_deleted_models_is_returned_on_a_gpu_that_was_used(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    returned: list[str] = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: returned.append(name))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: device == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: device == "mps")
    free_memory()
    assert returned == [device]
