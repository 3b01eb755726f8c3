"""Tiny random models of the decoder families people bring, in float32: one entry of `FAMILIES` each.

Every model has two layers, or as few as its family allows, grouped heads where it has them, and a window of 16 tokens
where it has one, so that a text of a few dozen tokens goes beyond it.
"""

from __future__ import annotations

from typing import Any

VOCABULARY, WINDOW = 128, 16
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {"head_dim": 16}
WINDOWED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GROUPED = {**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
SPARSE = {**EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": []}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
PER_LAYER = {
    **HEADS,
    "num_hidden_layers": 4,
    "layer_types": WINDOWED["layer_types"] * 2,
    "sliding_window": WINDOW,
    "num_kv_shared_layers": 2,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
}
GEMMA3 = {**HEADS, **WINDOWED, "query_pre_attn_scalar": 16}
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
PIXTRAL = {**SIGLIP, "head_dim": 16}
# What is not in `SIZES`, by transformers' model type. `type` replaces the model type and `only` the sizes; `text` holds
# the sizes of a multimodal model's decoder, and its other entries go to the model's config unchanged.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_tied": {"type": "llama", "tie_word_embeddings": True},
    "qwen2": {},
    "qwen3": HEADS,
    "qwen3_moe": {**HEADS, **SPARSE},
    "qwen2_moe": {**SPARSE, "shared_expert_intermediate_size": 32},
    "qwen3_5_text": {**HEADS, **DELTA},
    "qwen3_5": {"text": {**HEADS, **DELTA}, "vision_config": QWEN_VISION},
    "qwen3_next": {**HEADS, **SPARSE, **DELTA, "shared_expert_intermediate_size": 32},
    "mistral": {"sliding_window": None},
    "mistral_window": {"type": "mistral", "sliding_window": WINDOW},
    "ministral": {**HEADS, **WINDOWED, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "ministral3": HEADS,
    "mistral3": {"text": {"model_type": "mistral", "sliding_window": None}, "vision_config": PIXTRAL},
    "qwen2_5_vl": {
        "text": {"rope_parameters": MROPE},
        "vision_config": {**QWEN_VISION, "out_hidden_size": 64},
    },
    "mixtral": {**EXPERTS, "sliding_window": None},
    "gemma": HEADS,
    "gemma2": {**HEADS, **WINDOWED, "query_pre_attn_scalar": 16},
    "gemma3_text": GEMMA3,
    "gemma3": {"text": GEMMA3, "vision_config": SIGLIP, "mm_tokens_per_image": 4},
    "gemma3n_text": {
        **PER_LAYER,
        "intermediate_size": [128] * 4,
        "activation_sparsity_pattern": [0.0] * 4,
        "laurel_rank": 8,
    },
    "gemma4_text": {**PER_LAYER, "global_head_dim": 16},
    "phi": {"num_key_value_heads": 4},
    "phi3": {"sliding_window": None},
    "phimoe": {**EXPERTS, "sliding_window": None},
    "gpt_oss": {**HEADS, **EXPERTS, **WINDOWED},
    "gpt2": {"only": OLD},
    "gpt_neox": {},
    "olmo2": {},
    "olmo3": WINDOWED,
    "olmoe": EXPERTS,
    "smollm3": {"no_rope_layers": [1, 0]},
    "granite": {"logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 6.0},
    "granitemoe": EXPERTS,
    "granitemoehybrid": {**EXPERTS, **MAMBA, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 32},
    "cohere2": {**WINDOWED, **HEADS},
    "deepseek_v3": {**GROUPED, **LATENT, "first_k_dense_replace": 1},
    "glm4": HEADS,
    "glm4_moe": {**HEADS, **GROUPED, "first_k_dense_replace": 1},
    "nemotron": {},
    "nemotron_h": {
        "hybrid_override_pattern": "M*-M",
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 1,
        **HEADS,
    },
    "stablelm": {},
    "starcoder2": {"sliding_window": None},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 128},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 128, "block_auto_adjust_ff_dim": False},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1},
    "exaone4": {**HEADS, **WINDOWED},
    "llama4_text": {
        **HEADS,
        **EXPERTS,
        "attention_chunk_size": WINDOW,
        "intermediate_size_mlp": 128,
        "interleave_moe_layer_step": 1,
        "no_rope_layers": [1, 0],
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"only": {"n_layer": 2, "n_head": 4, "hidden_size": 64}},
    "minimax": {**HEADS, **EXPERTS, "block_size": 16, "layer_types": ["linear_attention", "full_attention"]},
    "ernie4_5": HEADS,
    "hunyuan_v1_dense": HEADS,
    "seed_oss": HEADS,
    "apertus": {},
    "nanochat": {},
    "mpt": {"only": {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 512, "expansion_ratio": 2}},
    "xglm": {"only": {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 128}},
    "jamba": {
        **EXPERTS,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "use_mamba_kernels": False,
    },
    "phi3_long": {
        "type": "phi3",
        "original_max_position_embeddings": 24,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 24,
            "short_factor": [1.0] * 8,
            "long_factor": [40.0] * 8,
        },
    },
    "recurrent_gemma": {
        "attention_window_size": WINDOW,
        "lru_width": 64,
        "block_types": ["recurrent", "attention"],
    },
}
# Without attention and without a kernel of their own to train with: only their answers are looked at.
ANSWERING: dict[str, dict[str, Any]] = {
    "rwkv": {"attention_hidden_size": 64},
    "xlstm": {},
}
STATE_WEIGHTS = ("A_log", "dt_bias", "lambda", "slopes")
"""Parameters of a recurrent state that a random change would make unstable."""


def tiny_config(name: str, vocabulary: int = VOCABULARY) -> Any:
    """The family's config without dropout and noise."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    changes = dict({**FAMILIES, **ANSWERING}[name])
    kind, only, text = CONFIG_MAPPING[changes.pop("type", name)], changes.pop("only", None), changes.pop("text", None)
    if text is not None:
        config = kind(text_config={**SIZES, **text, "vocab_size": vocabulary}, **changes)
    else:
        config = kind(**({**SIZES, **changes} if only is None else only) | {"vocab_size": vocabulary})
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        for field, value in list(vars(part).items()):
            if ("drop" in field or "jitter" in field) and isinstance(value, float):
                setattr(part, field, 0.0)
    return config


def tiny_model(name: str, seed: int = 0, vocabulary: int = VOCABULARY) -> Any:
    """Random weights, norms and biases included, so that each has an effect of its own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    config = tiny_config(name, vocabulary)
    auto = AutoModelForImageTextToText if hasattr(config, "text_config") else AutoModelForCausalLM
    torch.manual_seed(seed)
    model = auto.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(3.0)
            elif not any(part in path for part in STATE_WEIGHTS):
                weight.add_(torch.randn(weight.shape) * 0.1)
    return model.eval()
