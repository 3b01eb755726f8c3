"""The numbers: against plain transformers forward passes, and the statistics by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation
from sft_app.evaluation import scorecard
from sft_app.evaluation.scorecard import (
    RowScore,
    correct_for_several,
    make_scorecard,
    mean_loss,
    read_base_scores,
    score_conversations,
    score_copies,
    write_base_scores,
)
from sft_app.evaluation.verdicts import scorecard_lines
from sft_app.runs.folder import Run
from sft_app.runs.scorecard import AnswerScores, Interval, Selection


def conversations(tokenizer: Any, max_length: int = 512) -> list[RenderedConversation]:
    """Of different lengths, one with two assistant turns."""
    turns = [
        ["Where is it?", "Soon!"],
        ["Hi", "Hello, how can I help you today?"],
        ["Is it blue?", "Yes.", "And red?", "That one too, in two sizes."],
        ["Refund?", "£5 on its way."],
    ]
    roles = ("user", "assistant")
    rows = [[{"role": roles[i % 2], "content": text} for i, text in enumerate(row)] for row in turns]
    return [render_conversation(tokenizer, make_conversation(row), max_length) for row in rows]


@torch.no_grad()
def plain_scores(model: Any, rendered: list[RenderedConversation]) -> list[tuple[float, int, int]]:
    """Loss sum, tokens and correct guesses, from transformers' own loss and full logits."""
    table = []
    for item in rendered:
        ids, labels = (torch.tensor([row[: item.kept]]) for row in (item.input_ids, item.labels))
        output = model(input_ids=ids, labels=labels)
        wanted = labels[0, 1:] != IGNORED
        guesses = output.logits[0, :-1].argmax(-1)
        tokens = int(wanted.sum())
        table.append((float(output.loss) * tokens, tokens, int((guesses == ids[0, 1:])[wanted].sum())))
    return table


@pytest.fixture(scope="module")
def tuned_model(tiny_model_dir: Path) -> Any:
    """The tiny model with noise on every weight."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.05)
    return model


@pytest.mark.parametrize("max_length", [512, 60])
def test_scores_agree_with_plain_forward_passes(base_model: Any, tokenizer: Any, max_length: int) -> None:
    rendered = conversations(tokenizer, max_length)
    scores = score_conversations(base_model, rendered)
    expected = plain_scores(base_model, rendered)
    assert [(score.tokens, score.correct) for score in scores] == [(tokens, correct) for _, tokens, correct in expected]
    assert [score.loss_sum for score in scores] == pytest.approx([loss for loss, _, _ in expected], rel=1e-4)


@pytest.mark.parametrize("copies", [1, 2])
def test_long_conversation_is_scored_in_parts(
    base_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    conversation = conversations(tokenizer)[0]
    whole = score_copies(base_model, conversation, copies)
    monkeypatch.setattr(scorecard, "MAX_LOGITS_IN_PASS", 3 * copies * base_model.config.vocab_size)
    seen: list[int] = []
    handle = base_model.register_forward_hook(lambda _, __, output: seen.append(output.logits.shape[1]))
    parts = score_copies(base_model, conversation, copies)
    handle.remove()
    assert len(seen) == -(-conversation.trained // 3) > 1 and max(seen) == 3
    assert [(part.tokens, part.correct) for part in parts] == [(one.tokens, one.correct) for one in whole]
    assert [part.loss for part in parts] == pytest.approx([one.loss for one in whole], rel=1e-5)


def test_scorecard_agrees_with_an_independent_computation(base_model: Any, tuned_model: Any, tokenizer: Any) -> None:
    rendered = conversations(tokenizer)
    card = make_scorecard(*(score_conversations(model, rendered) for model in (base_model, tuned_model)))
    for side, model in (("base", base_model), ("tuned", tuned_model)):
        loss_sum, tokens, correct = (sum(column) for column in zip(*plain_scores(model, rendered), strict=True))
        assert getattr(card, side)["loss"] == pytest.approx(loss_sum / tokens, abs=1e-4)
        assert getattr(card, side)["perplexity"] == pytest.approx(math.exp(loss_sum / tokens), rel=1e-4)
        assert getattr(card, side)["token_accuracy"] == pytest.approx(correct / tokens, abs=1e-4)
    assert card.heldout.as_record() == {"conversations": 4, "trained_tokens": sum(item.trained for item in rendered)}
    for name in ("loss", "token_accuracy"):
        assert card.difference[name].value == pytest.approx(card.tuned[name] - card.base[name])


def test_scorecard_has_the_keys_of_the_contract() -> None:
    card = make_scorecard([RowScore(2.0, 2, 1)], [RowScore(1.0, 2, 2)])
    assert set(card.as_record()) == {"heldout", "base", "tuned", "difference", "rows"}
    assert set(card.base) == set(card.tuned) >= {"loss", "perplexity", "token_accuracy"}
    assert all(set(entry.as_record()) >= {"value", "low", "high"} for entry in card.difference.values())


def test_rows_are_counted_better_worse_and_equal() -> None:
    base = [RowScore(loss, 2, 1) for loss in (4.0, 4.0, 4.0, 4.0)]
    tuned = [RowScore(loss, 2, 1) for loss in (3.0, 2.0, 5.0, 4.0)]
    assert make_scorecard(base, tuned).rows.as_record() == {"better": 2, "worse": 1, "equal": 1}


def test_rows_without_a_number_are_not_counted_as_equal() -> None:
    base = [RowScore(4.0, 2, 1), RowScore(math.nan, 2, 1), RowScore(4.0, 2, 1)]
    tuned = [RowScore(3.0, 2, 1), RowScore(4.0, 2, 1), RowScore(math.inf, 2, 1)]
    rows = make_scorecard(base, tuned).rows
    assert rows.equal == 0 and rows.better == 1 and rows.not_a_number >= 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("count", [1, 8])
def test_no_token_is_predicted_where_the_logits_are_no_numbers(loss: float, count: int) -> None:
    """Which is the largest of them is chance: here all were "right"."""
    whole = [RowScore(4.0, 2, 1)] * 8
    parted = [RowScore(loss, 2, 2)] * count + whole[count:]
    for sides in ((whole, parted), (parted, whole)):
        card = make_scorecard(*sides)
        assert math.isnan(card.difference["token_accuracy"].value)
        assert {line.verdict for line in scorecard_lines(card)} == {"not a number: cannot be judged"}
        assert card.rows.as_record() == {"better": 0, "worse": 0, "equal": 8 - count, "not_a_number": count}
    assert math.isnan(card.base["token_accuracy"]) and card.tuned["token_accuracy"] == 0.5


def test_perplexity_is_not_cut() -> None:
    scores = [RowScore(3000.0, 2, 0)] * 8
    assert make_scorecard(scores, scores).base["perplexity"] == math.inf


def test_mean_is_over_tokens_not_over_conversations() -> None:
    scores = [RowScore(1.0, 1, 0), RowScore(30.0, 10, 0)]
    assert mean_loss(scores) == pytest.approx(31 / 11)
    assert make_scorecard(scores, scores).base["loss"] == pytest.approx(31 / 11)


def random_scores(seed: int, count: int, shift: float) -> list[RowScore]:
    import random

    draw = random.Random(seed)
    tokens = [draw.randint(5, 60) for _ in range(count)]
    return [RowScore(n * (draw.gauss(3, 0.5) + shift), n, draw.randint(0, n)) for n in tokens]


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5])
def test_interval_contains_the_value(shift: float) -> None:
    base = random_scores(1, 30, 0.0)
    tuned = [RowScore(row.loss_sum + row.tokens * shift, row.tokens, row.correct) for row in random_scores(1, 30, 0.1)]
    for entry in make_scorecard(base, tuned).difference.values():
        assert entry.low <= entry.value <= entry.high


def test_interval_is_paired_so_a_constant_gain_has_no_spread() -> None:
    base = random_scores(1, 30, 0.0)
    tuned = [RowScore(row.loss_sum - row.tokens * 0.25, row.tokens, row.correct) for row in base]
    loss = make_scorecard(base, tuned).difference["loss"]
    assert [loss.low, loss.value, loss.high] == pytest.approx([-0.25] * 3)


def test_interval_is_about_as_wide_as_the_normal_one() -> None:
    """Equal lengths make the difference a plain mean, whose 95 % interval is ±1.96 standard errors."""
    import statistics

    base = [RowScore(row.loss * 10, 10, 0) for row in random_scores(1, 200, 0.0)]
    tuned = [RowScore(row.loss * 10, 10, 0) for row in random_scores(2, 200, -0.3)]
    gains = [after.loss - before.loss for before, after in zip(base, tuned, strict=True)]
    expected = 2 * 1.96 * statistics.stdev(gains) / math.sqrt(len(gains))
    loss = make_scorecard(base, tuned).difference["loss"]
    assert loss.high - loss.low == pytest.approx(expected, rel=0.1)


def test_interval_is_fixed_by_the_seed() -> None:
    base, tuned = random_scores(1, 30, 0.0), random_scores(2, 30, -0.2)
    first, again, other = (make_scorecard(base, tuned, seed).difference for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert {name: entry.value for name, entry in first.items()} == {name: entry.value for name, entry in other.items()}


def test_equal_scores_have_no_difference() -> None:
    scores = random_scores(1, 12, 0.0)
    card = make_scorecard(scores, scores)
    assert card.rows.as_record() == {"better": 0, "worse": 0, "equal": 12}
    assert all(
        {entry.value, entry.low, entry.high} == {0.0} and entry.p_value == 1.0 for entry in card.difference.values()
    )


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_scorecard(random_scores(1, 3, 0.0), random_scores(1, 2, 0.0))


def test_conversation_without_a_trained_token_is_left_out(base_model: Any, tokenizer: Any) -> None:
    whole, cut = conversations(tokenizer)[0], conversations(tokenizer, 16)[0]
    assert cut.trained == 0
    assert len(score_conversations(base_model, [cut, whole])) == 1


@pytest.mark.parametrize("training", [True, False])
def test_scoring_puts_the_mode_back_and_scores_without_dropout(base_model: Any, tokenizer: Any, training: bool) -> None:
    expected = score_conversations(base_model, conversations(tokenizer))
    layer = base_model.model.layers[0].self_attn
    kept, layer.attention_dropout = layer.attention_dropout, 0.5
    try:
        base_model.train(training)
        assert score_conversations(base_model, conversations(tokenizer)) == expected
        assert base_model.training is training
    finally:
        layer.attention_dropout = kept
        base_model.eval()


def test_scores_survive_their_file_form(tmp_path: Path) -> None:
    run, scores = Run(tmp_path), [RowScore(2.5, 3, 1)]
    write_base_scores(run, scores)
    assert read_base_scores(run) == scores
    write_base_scores(run, [RowScore(math.nan, 3, 1)])
    assert math.isnan(read_base_scores(run)[0].loss)


def test_all_measures_but_the_primary_one_are_corrected_for_their_number() -> None:
    base, tuned = random_scores(1, 30, 0.0), random_scores(2, 30, -0.2)
    answers = AnswerScores(prompts=30, difference={"chrf": Interval(value=0.1, low=0.0, high=0.2, p_value=0.02)})
    card = make_scorecard(base, tuned).model_copy(update={"general": make_scorecard(base, tuned), "answers": answers})
    found = correct_for_several(card)
    assert found.difference["loss"].p_holm is None
    assert found.general is not None and found.general.difference["loss"].p_holm is None
    assert found.answers is not None and found.answers.difference["chrf"].p_holm == pytest.approx(0.06)  # of three
    by_tests = correct_for_several(card.model_copy(update={"primary": "tests"}))
    assert by_tests.difference["loss"].p_holm is not None


def test_answers_of_weights_chosen_on_the_same_rows_are_not_judged() -> None:
    scores = random_scores(1, 30, 0.0)
    answers = AnswerScores(prompts=30, difference={"chrf": Interval(value=0.1, low=0.0, high=0.2, p_value=0.02)})
    update = {"answers": answers, "selection": Selection(rows="same", evaluations=4)}
    found = correct_for_several(make_scorecard(scores, scores).model_copy(update=update))
    assert found.answers is not None and found.answers.difference["chrf"].p_holm is None
