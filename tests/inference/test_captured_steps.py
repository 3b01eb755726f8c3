"""A captured step gives the same answers or is not used. A stand-in calls the function where a GPU would repeat it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sft_app.inference import captured_steps
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters
from sft_app.inference.captured_steps import CHECKED_TOKENS, FixedCacheSteps, captured_step
from sft_app.inference.generation import Sampling, generate_tokens, noise_generator, noisy_scores
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings
from tests.families.table import tiny_model

PROMPTS = [[5, 9, 11, 7, 3, 8], [12, 6, 4]]
NEW = 3 * CHECKED_TOKENS


class CalledStep:
    """Calls the function at each replay, and at the capture as often as a GPU warms up."""

    def __init__(self) -> None:
        self.replays = 0

    def capture(self, function: Callable[[], torch.Tensor]) -> None:
        self.function = function
        for _ in range(3):
            function()

    def replay(self) -> torch.Tensor:
        self.replays += 1
        return self.function()


class WrongStep(CalledStep):
    """Is right for some tokens, then repeats the logits of the last one that was."""

    def __init__(self, right: int) -> None:
        super().__init__()
        self.right = right

    def replay(self) -> torch.Tensor:
        if self.replays < self.right:
            self.logits = super().replay()
        else:
            self.replays += 1
        return self.logits.roll(1, dims=-1) if self.replays > self.right else self.logits


class RefusedStep(CalledStep):
    """Cannot capture what the model does."""

    def capture(self, function: Callable[[], torch.Tensor]) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def use_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    def use(step: Any) -> Any:
        monkeypatch.setattr(captured_steps, "captured_step", lambda device: step)
        return step

    return use


@pytest.fixture(params=["llama", "qwen3", "mistral", "phi3"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param).eval()


def answers(model: Any, temperature: float = 0.0) -> list[Any]:
    return list(generate_tokens(model, PROMPTS, Sampling(temperature, 7, NEW), (), 0))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_captured_step_takes_over_and_gives_the_same_tokens(
    model: Any, use_step: Callable[[Any], Any], temperature: float
) -> None:
    expected = answers(model, temperature)
    step = use_step(CalledStep())
    assert answers(model, temperature) == expected
    assert step.replays == NEW - 1


@pytest.mark.parametrize("right", [0, 1, CHECKED_TOKENS - 1])
def test_wrong_capture_is_left_at_the_first_token_that_differs(use_step: Callable[[Any], Any], right: int) -> None:
    model = tiny_model("llama").eval()
    expected = answers(model)
    step = use_step(WrongStep(right))
    assert answers(model) == expected
    assert step.replays == right + 1


def test_step_that_cannot_be_captured_is_left(use_step: Callable[[Any], Any]) -> None:
    model = tiny_model("llama").eval()
    expected = answers(model)
    step = use_step(RefusedStep())
    assert answers(model) == expected and step.replays == 0


def test_short_answer_is_not_worth_a_capture(use_step: Callable[[Any], Any]) -> None:
    step = use_step(CalledStep())
    list(generate_tokens(tiny_model("llama").eval(), PROMPTS, Sampling(0.0, 7, 2 * CHECKED_TOKENS), (), 0))
    assert step.replays == 0


@pytest.mark.parametrize("name", ["mistral_window", "gemma3_text"])
def test_sliding_window_that_would_fill_is_decoded_the_ordinary_way(use_step: Callable[[Any], Any], name: str) -> None:
    model = tiny_model(name).eval()
    length = len(PROMPTS[0]) + NEW
    assert model.config.sliding_window < length
    with pytest.raises(ValueError, match="not of a fixed size"):
        FixedCacheSteps(model, PROMPTS, 0, length, CalledStep())
    expected = answers(model)
    step = use_step(CalledStep())
    assert answers(model) == expected and step.replays == 0


@pytest.mark.parametrize("name", ["mistral_window", "gemma3_text"])
def test_sliding_window_longer_than_the_text_is_captured(use_step: Callable[[Any], Any], name: str) -> None:
    model = tiny_model(name).eval()
    model.config.sliding_window = len(PROMPTS[0]) + NEW
    expected = answers(model)
    step = use_step(CalledStep())
    assert answers(model) == expected and step.replays == NEW - 1


def test_model_without_such_a_cache_is_decoded_the_ordinary_way(use_step: Callable[[Any], Any]) -> None:
    model = tiny_model("mamba2").eval()
    expected = answers(model)
    step = use_step(CalledStep())
    assert answers(model) == expected and step.replays == 0


def test_two_sides_of_a_batch_are_captured_with_their_adapters(use_step: Callable[[Any], Any]) -> None:
    torch.manual_seed(7)
    model = attach_lora(tiny_model("llama"), parse_settings({"lora_r": 4})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    rows, prompts = [RowAdapter(None), RowAdapter("default")], [PROMPTS[0]] * 2

    def both() -> list[Any]:
        with apply_row_adapters(model, rows):
            return list(generate_tokens(model, prompts, Sampling(0.0, 7, NEW), (), 0))

    expected = both()
    assert [left for left, _ in expected] != [right for _, right in expected]
    step = use_step(CalledStep())
    assert both() == expected and step.replays == NEW - 1


def test_only_a_gpu_of_nvidia_captures() -> None:
    assert captured_step(torch.device("cpu")) is None
    assert isinstance(captured_step(torch.device("cuda")), captured_steps.CudaGraphStep)


# the order in which a GPU is told what to do


def test_cuda_graph_is_warmed_up_on_its_own_stream_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            told.append(f"enter {self.name}")

        def __exit__(self, *_: Any) -> None:
            told.append(f"leave {self.name}")

        def wait_stream(self, other: Any) -> None:
            told.append(f"{self.name} waits for {other.name}")

        def replay(self) -> None:
            told.append("replay")

    monkeypatch.setattr(torch.cuda, "Stream", lambda: Told("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Told("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Told("graph"))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    step, result = captured_steps.CudaGraphStep(), torch.ones(1)

    def work() -> torch.Tensor:
        told.append("work")
        return result

    step.capture(work)
    assert step.replay() is result
    warm = ["side waits for main", "enter side", "work", "work", "work", "leave side", "main waits for side"]
    assert told == [*warm, "enter graph", "work", "leave graph", "replay"]


def test_noise_is_drawn_where_the_logits_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no step waits for the CPU; one draw for all rows, and the same for the same seed."""
    drawn: list[torch.device] = []
    real = torch.rand

    def rand(*size: int, device: torch.device, generator: Any) -> torch.Tensor:
        drawn.append(device)
        return real(*size, generator=generator if device.type == "cpu" else None)

    monkeypatch.setattr(torch, "rand", rand)
    logits = torch.zeros(2, 5)
    one, other = (noisy_scores(logits, 1.0, noise_generator(3, logits.device)) for _ in range(2))
    assert torch.equal(one, other) and torch.equal(one[0], one[1])
    noisy_scores(logits, 1.0, SimpleNamespace(device=torch.device("cuda")))  # type: ignore[arg-type]
    assert drawn == [torch.device("cpu"), torch.device("cpu"), torch.device("cuda")]
