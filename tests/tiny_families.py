"""Tiny random models of many families, in float32: one line of `FAMILIES` each."""

from __future__ import annotations

from typing import Any

VOCABULARY = 128
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS_OF_8 = {"head_dim": 8}
WINDOW = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
# What is not in `SIZES`, by transformers' model type; `only` replaces the sizes, `type` the model type.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": HEADS_OF_8,
    "mistral_window": {"type": "mistral", "sliding_window": 12},
    "gemma2": {**HEADS_OF_8, "sliding_window": 12, "query_pre_attn_scalar": 8},
    "gemma3_text": {**HEADS_OF_8, **WINDOW, "query_pre_attn_scalar": 8},
    "gemma3n_text": {
        **HEADS_OF_8,
        "num_hidden_layers": 4,
        "intermediate_size": [64] * 4,
        "layer_types": WINDOW["layer_types"] * 2,
        "sliding_window": 12,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "activation_sparsity_pattern": [0.0] * 4,
        "laurel_rank": 8,
    },
    "gpt_oss": {**HEADS_OF_8, **EXPERTS, **WINDOW},
    "nemotron": {},
    "stablelm": {},
    "phi3": {},
    "olmo2": {},
    "nanochat": {},
    "granite": {"logits_scaling": 4.0},
    "gpt2": {"only": OLD},
    "bloom": {"only": {"n_layer": 2, "n_head": 4, "hidden_size": 32}},
    "mpt": {"only": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512, "expansion_ratio": 2}},
    "xglm": {"only": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64}},
    "jamba": {
        **EXPERTS,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "use_mamba_kernels": False,
    },
    "granitemoehybrid": {**EXPERTS, **MAMBA, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 32},
    "minimax": {**EXPERTS, **HEADS_OF_8, "block_size": 16, "layer_types": ["linear_attention", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
}
# Those that are not trained with shortcuts anywhere, or cannot be: only their answers are looked at.
ANSWERING: dict[str, dict[str, Any]] = {
    "recurrent_gemma": {
        "attention_window_size": 16,
        "lru_width": 32,
        "block_types": ["recurrent", "attention"],
    },
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {},
    "phi3_long": {
        "type": "phi3",
        "original_max_position_embeddings": 24,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 24,
            "short_factor": [1.0] * 4,
            "long_factor": [40.0] * 4,
        },
    },
}
TARGETS = {"mamba2": "in_proj"}
"""`lora_target_modules` where PEFT refuses to adapt all linear layers."""


def tiny_model(name: str, seed: int = 0) -> Any:
    """Random weights, norms and biases included, so that each has an effect of its own; no dropout."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    changes = dict({**FAMILIES, **ANSWERING}[name])
    kind, only = CONFIG_MAPPING[changes.pop("type", name)], changes.pop("only", None)
    sizes = {**SIZES, **changes} if only is None else {"vocab_size": VOCABULARY, **only}
    config = kind(**sizes)
    for field, value in vars(config).items():
        if "drop" in field and isinstance(value, float):
            setattr(config, field, 0.0)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(3.0)
            elif not any(part in path for part in ("A_log", "dt_bias", "lambda")):
                weight.add_(torch.randn(weight.shape) * 0.1)
    return model.eval()
