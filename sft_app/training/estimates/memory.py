"""Estimate how much memory training takes, part by part, from the model's shape and the largest batch, without torch.

What autograd saves was counted in the code of the layers (`training/fast_paths/cpu_fused`, transformers' Llama, PEFT's
LoRA) and is valid for decoders of that kind. `bench/preflight.py` compares the estimates with measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

from sft_app.models.shapes import LinearShape, ModelShape
from sft_app.runtime.resources import CUDA_CONTEXT_GIB
from sft_app.settings import RunSettings
from sft_app.training.fast_paths.attention import supports_separate_attention
from sft_app.training.fast_paths.step_plan import MAX_LOGITS_IN_MEMORY

GIB = 2**30
# Python with everything a worker imports before it loads a model, and its working memory.
PROCESS_GIB = 0.63
# NF4: half a byte per weight, an 8-bit scale per 64 weights, and a 32-bit scale per 256 of those scales.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Margin added to the estimate, because its parts were counted for a few architectures only.
MARGIN = 0.10
# On a CPU: memory lost to fragmentation, as a share of what all layers save without checkpointing. Measured.
HEAP_GAPS = 0.5
# The same for dequantised 4-bit weights, as a multiple of the widest weight of each layer.
WEIGHT_GAPS = 1.5
# A trained weight: always float32.
TRAINED_BYTES = 4
# The largest part of the logits that TRL's fused head computes at once. Source: TRL 1.16, `kernels/chunked_logprob`.
FUSED_HEAD_TOKENS, FUSED_HEAD_COLUMNS = 4096, 32_768
# Linear layers that read the same input, which is saved only once.
SAME_INPUT = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}


@dataclass(frozen=True)
class LargestBatch:
    """The largest micro-batch: `tokens` with padding, of which `trained` have labels."""

    tokens: int
    trained: int


@dataclass(frozen=True)
class MemoryParts:
    """The parts of an estimate in GiB. `trained` is for gradients, optimizer, and an adapter's weights."""

    process: float
    weights: float
    trained: float
    activations: float
    loss_head: float
    margin: float

    @property
    def total(self) -> float:
        return self.expected + self.margin

    @property
    def expected(self) -> float:
        """Return the estimate without the margin, which a measurement should confirm."""
        return self.process + self.weights + self.trained + self.activations + self.loss_head


def estimate_memory(
    shape: ModelShape, settings: RunSettings, batch: LargestBatch, device: str, dtype: str
) -> MemoryParts:
    """Estimate the memory for training. `dtype` is torch's name for the step's dtype; `device` is `cuda` or `cpu`."""
    compute = bytes_per_number(dtype)
    weights = weight_bytes(shape, settings, compute)
    trained = _trained_bytes(shape, settings)
    activations = _activation_bytes(shape, settings, batch, device, compute)
    head = _head_bytes(shape, settings, batch, device, compute)
    process = CUDA_CONTEXT_GIB if device == "cuda" else PROCESS_GIB
    if settings.gradient_accumulation_steps == 1:
        # Gradients appear as the activations they are computed from are freed.
        activations -= min(activations, gradient_bytes(shape, settings))
    if device == "cpu":
        activations += HEAP_GAPS * batch.tokens * shape.layers * layer_bytes(shape, settings, device, compute)
        if settings.method == "qlora":
            activations += WEIGHT_GAPS * shape.layers * compute * shape.hidden_size * shape.intermediate_size
    parts = {"weights": weights, "trained": trained, "activations": activations, "loss_head": head}
    in_gib = {name: part / GIB for name, part in parts.items()}
    return MemoryParts(process=process, **in_gib, margin=MARGIN * (process + sum(in_gib.values())))


def weight_bytes(shape: ModelShape, settings: RunSettings, compute: int) -> float:
    """Return the bytes of the weights. Those of `full` are float32, with copies in half precision during a step."""
    if settings.method == "full":
        return shape.parameters * (TRAINED_BYTES + (compute if compute < TRAINED_BYTES else 0))
    if settings.method != "qlora":
        return shape.parameters * compute
    return shape.linear_weights * NF4_BYTES + (shape.parameters - shape.linear_weights) * compute


def bytes_per_number(dtype: str) -> int:
    """Return the bytes of one number, given torch's name for its dtype."""
    return 2 if dtype in ("bfloat16", "float16") else 4


def checkpointed_layers(settings: RunSettings, device: str) -> int:
    """Return n if every n-th layer is recomputed instead of saved, and 0 if none is."""
    is_used = device == "cuda" if settings.gradient_checkpointing is None else settings.gradient_checkpointing
    return settings.checkpoint_every_n_layers if is_used else 0


def gradient_bytes(shape: ModelShape, settings: RunSettings) -> float:
    """Return the bytes of all gradients, which are float32 like the trained weights."""
    return shape.trainable(settings) * TRAINED_BYTES


def _trained_bytes(shape: ModelShape, settings: RunSettings) -> float:
    """Return the bytes of gradients, AdamW's two moments, and an adapter's weights."""
    return gradient_bytes(shape, settings) * (3 if settings.method == "full" else 4)


def _activation_bytes(
    shape: ModelShape, settings: RunSettings, batch: LargestBatch, device: str, compute: int
) -> float:
    layer = layer_bytes(shape, settings, device, compute)
    if device == "cuda" and settings.is_packed():
        layer += _score_bytes(shape, batch, compute)
    if every := checkpointed_layers(settings, device):
        recomputed = -(-shape.layers // every)
        live = 2 * layer  # one layer at a time, with the gradients of what it saves
        saved = recomputed * compute * shape.hidden_size + (shape.layers - recomputed) * layer
        return batch.tokens * (saved + live)
    return batch.tokens * shape.layers * layer


def _score_bytes(shape: ModelShape, batch: LargestBatch, compute: int) -> float:
    """Return the bytes per token of a layer's attention scores, if it attends to a whole packed row under a mask.

    Scores and their softmax are kept in the base's dtype, and the softmax is computed in float32.
    """
    if supports_separate_attention(shape.model.config.get_text_config()):
        return 0.0
    return shape.heads * batch.tokens * (2 * compute + 4)


def layer_bytes(shape: ModelShape, settings: RunSettings, device: str, compute: int) -> float:
    """Return the bytes that a decoder layer saves per token for the backward pass."""
    attention = compute * (2 * shape.query_width + 2 * shape.key_width) + 4 * shape.heads
    is_full = settings.method == "full"
    norms = 2 * 4 * shape.hidden_size * (2 if is_full else 1)
    # `training/fast_paths/cpu_fused` does not save the activation's output.
    is_gated = device == "cpu" and compute == 4 and settings.method != "qlora" and settings.is_packed()
    gates = compute * (2 if is_gated else 3) * shape.intermediate_size
    narrow = 0.0 if is_full else compute * settings.lora_r * len(shape.targets(settings)) / shape.layers
    return attention + norms + gates + narrow + _input_bytes(shape, settings, device, compute)


def _input_bytes(shape: ModelShape, settings: RunSettings, device: str, compute: int) -> float:
    """Return the bytes of saved inputs of a layer's trained linears; PEFT copies them for adapters of another dtype."""
    if settings.method == "full":
        return compute * _shared_inputs(list(shape.linears)) / shape.layers
    targets = shape.targets(settings)
    if compute == TRAINED_BYTES:
        return compute * _shared_inputs(targets) / shape.layers
    return 2 * sum(linear.inputs for linear in targets) / shape.layers


def _shared_inputs(linears: list[LinearShape]) -> int:
    widths = {}
    for linear in linears:
        block, _, name = linear.name.rpartition(".")
        widths[block, SAME_INPUT.get(name, name)] = linear.inputs
    return sum(widths.values())


def _head_bytes(shape: ModelShape, settings: RunSettings, batch: LargestBatch, device: str, compute: int) -> float:
    """Return the bytes of the logits and their loss. Evaluation needs less: it has no activations."""
    vocabulary, weight_gradient = shape.vocabulary, 0.0
    if settings.method == "full":
        weight_gradient = 4.0 * shape.vocabulary * shape.hidden_size
    if device == "cuda" and settings.trainer == "sft":
        chunk = compute * min(batch.trained, FUSED_HEAD_TOKENS) * min(vocabulary, FUSED_HEAD_COLUMNS)
        return chunk + (4 + 2 * compute) * batch.trained * shape.hidden_size + weight_gradient
    if settings.is_packed():
        chunk = min(MAX_LOGITS_IN_MEMORY, batch.trained * vocabulary) * (4 if compute == 4 else 4 + 2 * compute)
        return chunk + 2 * compute * batch.trained * shape.hidden_size + weight_gradient
    return batch.tokens * vocabulary * (3 * 4 + (2 if compute == 2 else 0))
