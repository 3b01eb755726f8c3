"""Both orders decide, nothing is asked twice, and a verdict counts only once the judge agrees with people."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sft_app.errors import JudgeError
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.evaluation.judge.client import Judge
from sft_app.evaluation.judge.judgements import Judgement, judge_pairs, missing_pairs, read_judgements
from sft_app.evaluation.judge.questions import CHECKLIST
from sft_app.evaluation.judge.result import JudgeResult, Share, judge_result, judge_results, judge_sentences
from sft_app.evaluation.votes import Ballot, cast_vote, finish_voting
from sft_app.runs.folder import Run
from sft_app.runtime.files import append_jsonl
from tests.evaluation.judge.conftest import PAIRS
from tests.judge_stand_in import Played, chooses, verdict


def judge_at(played: Played, model: str = "small") -> Judge:
    return Judge(played.address, model, pauses=())


def judge_all(run: Run, judge: Judge, limit: int | None = None, checklist: Sequence[str] = CHECKLIST) -> JudgeResult:
    list(judge_pairs(run, missing_pairs(run, judge, checklist, limit), judge, checklist))
    found = judge_result(run, judge, checklist)
    assert found is not None
    return found


def vote(run: Run, pairs: Sequence[AnswerPair], key: str = "2", voter: str = "Ada") -> None:
    """Vote for the fine-tuned answers with 2, for the base's with 1, and finish."""
    for pair in pairs:
        cast_vote(run, Ballot(pair, base_is_left=True), key, voter)  # type: ignore[arg-type]
    finish_voting(run, voter)


def text_of(found: JudgeResult) -> str:
    return " ".join(judge_sentences(found))


def test_a_judge_that_always_says_a_decides_nothing(run: Run, played: Played) -> None:
    vote(run, PAIRS)
    found = judge_all(run, judge_at(played))
    assert (found.judged, found.by_order, found.wins.total, found.counts) == (20, 20, 0, False)
    assert "preferred neither side in any of them. In 20 (100%), the choice depended on the order" in text_of(found)
    assert "do not count yet: it decides too few pairs. Choose another model or checklist." in text_of(found)
    assert "vote on" not in text_of(found)


@pytest.mark.parametrize(
    ("ties", "told"), [(13, "yet: it decides too few pairs"), (12, "yet: vote on at least 8 more pairs")]
)
def test_pairs_that_the_judge_does_not_decide_are_no_pairs_to_vote_on(
    run: Run, played: Played, ties: int, told: str
) -> None:
    tied = {pair.tuned for pair in PAIRS[:ties]}
    played.character = chooses(lambda text: text.startswith("warm") and text not in tied)
    found = judge_all(run, judge_at(played))
    assert found.ties == ties and told in text_of(found)


def test_a_judge_without_a_verdict_is_to_be_replaced(run: Run, played: Played) -> None:
    played.character = lambda parts: "Both are lovely."
    told = text_of(judge_all(run, judge_at(played)))
    assert "It gave no verdict on any of them." in told and "Choose another model" in told
    assert "neither side" not in told and "vote on" not in told
    played.character = chooses(lambda text: text.startswith("warm"))
    assert judge_all(run, judge_at(played, "other")).judges == 1  # one without a verdict is no further chance to agree


def test_a_judge_that_agrees_with_the_votes_counts(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm") != text.endswith("2"))
    vote(run, PAIRS[:10])
    found = judge_all(run, judge_at(played))
    assert (found.wins.hits, found.wins.misses) == (18, 2)
    assert (found.agreement.hits, found.agreement.misses) == (9, 1)
    assert not found.counts and "do not count yet: vote on at least" in text_of(found)
    vote(run, [pair for pair in PAIRS[10:] if not pair.tuned.endswith("2")], voter="Bo")
    found = judge_all(run, judge_at(played))
    assert found.counts and (found.agreement.hits, found.agreement.misses) == (18, 1)
    assert "It agreed with people on 18 of 19 pairs: 95% (95% interval" in text_of(found)
    assert "Its verdict counts: it prefers the fine-tuned model’s answers." in text_of(found)
    assert "Always choosing the same side would agree on 19" in text_of(found)


def test_only_votes_of_people_who_have_finished_are_compared(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm"))
    for pair in PAIRS:
        cast_vote(run, Ballot(pair, base_is_left=True), "2", "Ada")
    found = judge_all(run, judge_at(played))
    assert found.agreement.total == 0 and "no pair that both the judge and people" in text_of(found)
    finish_voting(run, "Ada")
    assert judge_all(run, judge_at(played)).agreement.hits == 20


def test_with_too_few_pairs_more_prompts_are_needed_first(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm"))
    run.pairs_file.unlink()
    add_pairs(run, PAIRS[:7])
    assert "yet: answer more prompts with both sides" in text_of(judge_all(run, judge_at(played)))
    add_pairs(run, PAIRS[:8])
    assert "yet: vote on at least 8 more pairs" in text_of(judge_all(run, judge_at(played)))


def test_a_judge_that_contradicts_people_is_to_be_replaced(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("plain"))
    vote(run, PAIRS)
    found = judge_all(run, judge_at(played))
    assert found.wins.is_below_half and not found.counts
    assert "it contradicts people more often than chance does. Choose another model" in text_of(found)
    assert "Its verdict counts" not in text_of(found)


def test_a_judge_that_chooses_at_random_does_not_count(run: Run, played: Played) -> None:
    for number, pair in enumerate(PAIRS):
        vote(run, [pair], "1" if number % 2 else "2", voter=f"voter {number}")
    draw = random.Random(3)
    liked = {text for pair in PAIRS for text in [draw.choice((pair.base, pair.tuned))]}
    played.character = chooses(lambda text: text in liked)
    found = judge_all(run, judge_at(played))
    assert found.wins.total == found.agreement.total == 20 and not found.counts


def test_nothing_is_asked_twice_and_voted_pairs_come_first(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm"))
    vote(run, PAIRS[7:9])
    judge = judge_at(played)
    assert {pair.id for pair in missing_pairs(run, judge, CHECKLIST, 2)} == {pair.id for pair in PAIRS[7:9]}
    assert judge_all(run, judge, limit=2).judged == 2 and len(played.requests) == 4
    assert judge_all(run, judge).judged == 20 and len(played.requests) == 40
    assert judge_all(run, judge).judged == 20 and len(played.requests) == 40
    assert len(missing_pairs(run, judge, ("Another point.",))) == len(
        missing_pairs(run, judge_at(played, "b"), CHECKLIST)
    )


def test_nonsense_is_counted_named_and_tried_again(run: Run, played: Played) -> None:
    played.character = lambda parts: "Both are lovely." if parts["PROMPT"] in ("Q1", "Q2") else verdict("tie")
    found = judge_all(run, judge_at(played))
    assert (found.no_verdict, found.ties, found.wins.total) == (2, 18, 0)
    assert "It gave no verdict on 2 pairs" in text_of(found)
    played.character = chooses(lambda text: text.startswith("warm"))
    found = judge_all(run, judge_at(played))
    assert (found.no_verdict, found.ties, found.wins.hits, len(played.requests)) == (0, 18, 2, 44)


def test_what_was_judged_before_an_error_is_kept(run: Run, played: Played) -> None:
    judge = replace(judge_at(played), pauses=(0.0,))
    found = judge_pairs(run, missing_pairs(run, judge, CHECKLIST), judge, CHECKLIST)
    next(found)
    played.refusals = [(500, {}, b"")] * 2
    with pytest.raises(JudgeError, match="2 tries in a row.*What was judged before is saved; ask again to continue."):
        next(found)
    assert [len(judged) for judged in read_judgements(run).values()] == [1]


def test_a_pair_that_the_judge_refuses_has_no_verdict_and_holds_up_no_other(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm"))
    judge = judge_at(played)
    pairs = missing_pairs(run, judge, CHECKLIST)
    asking = judge_pairs(run, pairs, judge, CHECKLIST)
    next(asking)
    played.refusals = [(413, {}, b""), (400, {}, b"")]
    assert [one.outcome for one in asking] == ["none", "none", *["tuned"] * 17]
    assert [pair.id for pair in missing_pairs(run, judge, CHECKLIST)] == [pair.id for pair in pairs[1:3]]


def test_the_first_refusal_and_three_in_a_row_end_the_judging(run: Run, played: Played) -> None:
    judge = judge_at(played)
    played.refusals = [(400, {}, b"")]
    with pytest.raises(JudgeError, match="cannot answer this request") as caught:
        judge_all(run, judge)
    assert "saved" not in str(caught.value) and len(played.requests) == 1
    asking = judge_pairs(run, missing_pairs(run, judge, CHECKLIST), judge, CHECKLIST)
    first = next(asking)  # another pair than the one that was refused
    played.refusals = [(422, {}, b"")] * 3
    with pytest.raises(JudgeError, match="What was judged before is saved"):
        list(asking)
    (known,) = read_judgements(run).values()
    assert [one.outcome for one in known.values()] == ["none", first.outcome, *["none"] * 3]


@pytest.mark.parametrize(
    ("base_first", "tuned_first", "outcome"),
    [
        ("A", "B", "base"),
        ("B", "A", "tuned"),
        ("A", "A", "order"),
        ("tie", "A", "order"),
        ("tie", "tie", "tie"),
        ("none", "B", "none"),
    ],
)
def test_both_orders_must_name_the_same_answer(base_first: str, tuned_first: str, outcome: str) -> None:
    record = {"pair": "p", "address": "", "model": "", "checklist": ""}
    assert Judgement.model_validate(
        {**record, "base_first": base_first, "tuned_first": tuned_first}
    ).outcome == outcome  # fmt: skip


def test_half_written_lines_and_pairs_that_are_gone_are_left_out(run: Run, played: Played) -> None:
    found = judge_all(run, judge_at(played), limit=3)
    append_jsonl(run.judgements_file, {"pair": PAIRS[0].id, "base_first": "C"})
    with run.judgements_file.open("a") as file:
        file.write('{"pair": "p", "base_')
    assert judge_all(run, judge_at(played), limit=0) == found
    run.pairs_file.unlink()
    assert judge_results(run) == []


def test_several_judges_need_more_agreement(run: Run, played: Played) -> None:
    played.character = chooses(lambda text: text.startswith("warm"))
    vote(run, PAIRS[:8])
    judge = judge_at(played)
    assert judge_all(run, judge).counts
    judge_all(run, judge_at(played, "other"), limit=1)
    first, last = judge_results(run)
    assert (first.judge[1], last.judge[1], first.judges) == ("small", "other", 2) and not first.counts
    assert "2 judges were tried on this run, so the intervals are wider" in text_of(first)


def test_eight_is_the_fewest_pairs_that_can_show_agreement() -> None:
    assert Share(0, 0).hits_to_decide() == 8
    assert not Share(7, 0).is_above_half and Share(8, 0).is_above_half
    for hits in range(40):
        for misses in range(40 - hits):
            share = Share(hits, misses)
            assert share.is_above_half == (share.interval[0] > 0.5)
            assert Share(hits + share.hits_to_decide(), misses).is_above_half


def test_a_random_judge_rarely_counts_however_often_someone_votes_and_looks() -> None:
    """Votes are added one by one, with a look after each: an interval for a fixed number of votes fails here."""
    draw, times, counted = random.Random(0), 2000, 0
    for _ in range(times):
        hits, looks = 0, 100
        for total in range(1, looks + 1):
            hits += draw.random() < 0.5
            if Share(hits, total - hits).is_above_half:
                counted += 1
                break
    assert counted / times < 0.025
