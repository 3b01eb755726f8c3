"""Define the model of a run and what of it is trained."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from pydantic import field_validator

from sft_app.settings.data import setting
from sft_app.settings.heldout import HeldoutSettings

Method = Literal["qlora", "lora", "full"]
TrainerKind = Literal["sft", "classic"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
OWN_TEMPLATE = "the model's own"
CHATML = "chatml"
"""The value of `chat_template` for ChatML. Source: OpenAI, "Chat Markup Language" (openai-python 0.28, chatml.md)."""


class MethodSettings(HeldoutSettings):
    """The settings of the data, the model, and the weights that training changes."""

    name: str = setting("data", "", "A name that helps you recognise the run.", max_length=80)
    max_length: int | None = setting(
        "data",
        None,
        "Maximum tokens per conversation; longer ones are cut off at the end. Leave empty for a value that keeps 99 of "
        "100 conversations whole.",
        ge=16,
        le=131_072,
    )

    tests: str = setting(
        "data", "", "File of tests to run at the end. Empty: those of the last run on the same data; none: no tests."
    )

    model: str = setting("model", "starter", "starter, a Hugging Face model id, or a local folder.", min_length=1)
    revision: str | None = setting(
        "model", None, "Branch, tag or commit of a Hub model. Leave empty for its main branch."
    )
    dtype: Dtype = setting("model", "auto", "Precision of the weights; auto picks the fastest on this machine.")
    chat_template: str = setting(
        "model",
        "",
        "How conversations are written as text. Leave empty for the model's own; chatml for a base model that has "
        "none; or paste a Jinja template.",
        max_length=100_000,
    )

    enable_thinking: bool = setting(
        "model",
        False,
        "Ask the model to think before it answers, if it can, such as Qwen3 and SmolLM3. Thoughts are long: also raise "
        "max new tokens.",
    )

    method: Method = setting(
        "method", "lora", "qlora: adapter on a 4-bit base; lora: adapter; full: trains every weight."
    )
    trainer: TrainerKind = setting(
        "method", "sft", "sft: TRL's SFTTrainer with packing; classic: transformers' Trainer."
    )
    lora_r: int = setting("method", 16, "Rank of the adapter: how much it can learn.", ge=1, le=512)
    lora_alpha: int = setting("method", 32, "Scaling of the adapter; usually twice the rank.", ge=1, le=1024)
    use_rslora: bool = setting(
        "method", False, "Scale the adapter by the square root of its rank; for ranks of 64 and up."
    )
    use_dora: bool = setting(
        "method", False, "DoRA: train the magnitude and direction of each weight separately; slower."
    )
    lora_dropout: float = setting("method", 0.0, "Share of adapter inputs dropped while training.", ge=0.0, le=0.5)
    lora_target_modules: str = setting(
        "method", "all-linear", "all-linear, or module names separated by commas.", min_length=1
    )

    @field_validator("chat_template")
    @classmethod
    def _template_or_name(cls, value: str) -> str:
        if value.lower() == CHATML:
            return CHATML
        if value and "{" not in value:
            raise ValueError("must be empty, chatml, or the text of a Jinja template")
        return value

    def describe_chat_template(self) -> str:
        """Return the chosen chat template in words."""
        if not self.chat_template:
            return OWN_TEMPLATE
        if self.chat_template == CHATML:
            return "ChatML"
        return f"pasted (sha256 {sha256(self.chat_template.encode()).hexdigest()[:12]})"
