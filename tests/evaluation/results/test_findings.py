"""No sentence about a result contradicts another: the headline, the tests, the general questions, what was lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from sft_app.cli.terminal import print_scorecard
from sft_app.evaluation.forgetting.sentences import describe_known, forgetting_sentence, known_sentence
from sft_app.evaluation.results.findings import find_results
from sft_app.evaluation.results.headline import READ_FIRST, WEAKER, headline
from sft_app.evaluation.suites.summary import suite_sentence
from sft_app.evaluation.verdicts import judgeable_answers, scorecard_lines, summary_sentence
from sft_app.runs.known import Known, KnownCounts
from sft_app.runs.scorecard import AnswerScores, Counted, Interval, PredictedScores, Scorecard
from sft_app.runs.suite_scores import JudgedAnswer, JudgedTest, SuiteScores
from sft_app.ui.compare.scorecard_views import scorecard_view

CHANGES = {"better": -0.5, "worse": 0.5, "unchanged": 0.0, "too few": 0.1, "not a number": math.nan}
PASSES: dict[str, tuple[list[int], list[int]]] = {
    "better": ([0] * 20, [1] * 15 + [0] * 5),
    "worse": ([1] * 20, [1] * 5 + [0] * 15),
    "unchanged": ([1, 0] * 10, [1, 0] * 10),
    "too few": ([0] * 20, [1] * 2 + [0] * 18),
    "all pass": ([1] * 20, [1] * 20),
    "all fail": ([0] * 20, [0] * 20),
}
REASON = "The chat template does not accept system"


def part(change: str, kind: type[PredictedScores] = PredictedScores, **more: Any) -> Any:
    value = CHANGES[change]
    spread = 0.0 if change == "unchanged" else 0.2
    loss = Interval(value=value, low=value - spread, high=value + spread, p_value=0.001, p_holm=0.01)
    loss = loss.model_copy(update={"p_holm": 0.4}) if change == "too few" else loss
    counted = Counted(conversations=60, trained_tokens=600, groups=60)
    return kind(heldout=counted, base={"loss": 2.0}, tuned={"loss": 2.0 + value}, difference={"loss": loss}, **more)


def suite(outcome: str) -> SuiteScores | None:
    if outcome == "no tests":
        return None
    if outcome == "not run":
        return SuiteScores(origin="t.yaml", problem=f"{REASON}.")
    tests = [
        JudgedTest(
            name=str(number),
            prompt=str(number),
            answers=[JudgedAnswer(answer="x", failed=[] if one else ["no"]) for one in both],
        )
        for number, both in enumerate(zip(*PASSES[outcome], strict=True))
    ]
    return SuiteScores(origin="t.yaml", sides=["base", "tuned"], tests=tests)


def counts(known: int, lost: int, p_value: float) -> Known:
    found = KnownCounts(asked=60, known=known, lost=lost, high=0.1, p_value=p_value, p_holm=p_value)
    return Known(by_loss=found)


KNOWN: dict[str, Known | None] = {
    "lost": counts(50, 12, 0.001),
    "some lost": counts(50, 2, 0.5),
    "nothing lost": counts(50, 0, 1.0),
    "too few known": counts(4, 0, 1.0),
    "none known": counts(0, 0, 1.0),
    "not a number": Known(is_broken=True),
    "not measured": None,
}
ANSWERS = {
    "worse": AnswerScores(
        prompts=60,
        base={"repetition": 0.1},
        tuned={"repetition": 0.6},
        difference={"repetition": Interval(value=0.5, low=0.4, high=0.6, p_value=0.001, p_holm=0.01)},
    ),
    "not measured": None,
}


def every_card() -> Iterator[tuple[Scorecard, tuple[str, ...]]]:
    tests, general = [*PASSES, "not run", "no tests"], [*CHANGES, "not measured"]
    for names in product(("loss", "tests"), CHANGES, tests, general, KNOWN, ANSWERS):
        decider, loss, passed, forgot, known, answered = names
        yield (
            part(
                loss,
                Scorecard,
                primary=decider,
                tests=suite(passed),
                general=None if forgot == "not measured" else part(forgot),
                known=KNOWN[known],
                answers=ANSWERS[answered],
            ),
            names,
        )


def verdicts(card: Scorecard) -> list[str]:
    parts = [one for one in (card, card.general, judgeable_answers(card)) if one is not None]
    return [line.verdict for one in parts for line in scorecard_lines(one)]


def test_no_sentence_contradicts_another_whatever_the_parts_show() -> None:
    for card, names in every_card():
        _, _, passed, forgot, known, _ = names
        said, general, lost = headline(card), forgetting_sentence(card), known_sentence(card)
        is_bad = "worse" in verdicts(card) or passed == "worse" or forgot == "worse" or known == "lost"
        is_bad = is_bad or "not a number" in (forgot, known)
        if said.kind == "better" or "export" in str(said) or "nothing that it knew was lost" in str(said):
            assert not is_bad, (names, str(said))
        if "changed nothing that can be measured" in said.sentence:
            assert not is_bad and "better" not in (passed, *verdicts(card)), (names, str(said))
        if "No sign of forgetting" in general:
            assert known not in ("lost", "some lost", "not a number"), (names, general)
        if forgot == "worse":
            assert "No general question was lost" not in lost and "may have" not in lost, (names, lost)
            assert general.startswith("Something was forgotten")
        if said.sentence != "" and find_results(card).task != "not a number":
            assert ("forgot something" in said.sentence) == (known == "lost"), (names, str(said))
            assert (forgot == "worse" and known != "lost") == ("general questions worse" in said.sentence)
            assert said.kind == "worse" or not (known == "lost" or forgot == "worse"), names
        for sentence in filter(None, (str(said), general, lost)):
            assert sentence.endswith(".") and ".." not in sentence and "  " not in sentence and " ," not in sentence


def test_the_table_holds_every_outcome() -> None:
    """Otherwise the law above would say nothing of those that never occur."""
    found = [(find_results(card), names) for card, names in every_card()]
    for result, (_, loss, passed, forgot, known, _) in found:
        assert (result.loss, result.tests, result.general) == (loss, passed, forgot)
        assert result.known == ("some lost" if known == "lost" else known)
        assert result.lost_beyond_chance == (known == "lost")


def sentence_of(**chosen: str) -> tuple[Scorecard, str]:
    names = {"primary": "loss", "loss": "better", "tests": "no tests", "general": "", "known": "", **chosen}
    general = part(names["general"]) if names["general"] else None
    card = part(
        names["loss"],
        Scorecard,
        primary=names["primary"],
        tests=suite(names["tests"]),
        general=general,
        known=KNOWN[names["known"] or "not measured"],
    )
    return card, str(headline(card))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (
            {"tests": "worse"},
            "The model got better at your task, but it passes fewer of your tests. Read the 15 tests that it fails "
            "before you use it.",
        ),
        (
            {"general": "worse", "known": "nothing lost"},
            "The model got better at your task, but it predicts the answers to general questions worse than before. "
            + WEAKER,
        ),
        (
            {"primary": "tests", "tests": "better", "loss": "worse"},
            "The model got better at your task, but it predicts the held-out answers worse than before. " + READ_FIRST,
        ),
        (
            {"loss": "too few", "tests": "better"},
            "It is not clear yet whether training helped, but the fine-tuned model passes more of your tests. "
            "Bring more held-out conversations, or read the answers side by side.",
        ),
        (
            {"loss": "worse", "tests": "better", "known": "lost"},
            "Training made the model worse at your task, and it forgot something that it knew, but it passes more of "
            "your tests.",
        ),
        (
            {"primary": "tests", "tests": "not run"},
            "The result is not known, because your tests decide and could not be run, but the fine-tuned model "
            f"predicts the held-out answers better than before. {REASON}.",
        ),
        (
            {"primary": "tests", "tests": "not run", "loss": "too few"},
            f"and could not be run. {REASON}. Correct the tests",
        ),
        ({"primary": "tests", "loss": "too few"}, "your tests decide and have no results. Measure the run again"),
        (
            {"primary": "tests", "tests": "all pass"},
            "Both models pass all your tests, so these cannot show whether training helped, but the fine-tuned model "
            "predicts the held-out answers better than before. Write harder tests",
        ),
        ({"primary": "tests", "tests": "all fail", "loss": "too few"}, "Both models fail all your tests"),
        (
            {"primary": "tests", "tests": "unchanged"},
            "By your tests, training changed nothing, but the fine-tuned model predicts the held-out answers better "
            "than before. Write more tests",
        ),
    ],
)
def test_the_headline_names_what_contradicts_it(chosen: dict[str, str], expected: str) -> None:
    assert expected in sentence_of(**chosen)[1]


def test_forgetting_is_said_in_the_same_words_on_the_page_and_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for general, known in (
        ("better", "lost"),
        ("worse", "nothing lost"),
        ("too few", "lost"),
        ("better", "not a number"),
    ):
        card, said = sentence_of(general=general, known=known, tests="worse")
        print_scorecard(card)
        printed, page = " ".join(capsys.readouterr().out.split()), scorecard_view(card)
        text = describe_known(card)
        assert text is not None and text.sentence == known_sentence(card)
        for sentence in (said, forgetting_sentence(card), known_sentence(card), summary_sentence(card)):
            assert sentence in printed
            assert sentence in page
        assert card.tests is not None and suite_sentence(card.tests) in printed
