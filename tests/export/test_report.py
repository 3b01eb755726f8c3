"""The report of a run: everything is in it, nothing leaves the machine that should not, nobody's text breaks it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import SHOWN, AnswerPair, add_pairs, collect_pairs, read_pairs
from sft_app.evaluation.verdicts import scorecard_lines
from sft_app.export.markdown import markdown_text
from sft_app.export.model_card import model_card
from sft_app.export.report import report_html, report_markdown, write_report
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord
from sft_app.runs.scorecard import Scorecard
from sft_app.runtime.files import append_jsonl, write_json_atomically
from sft_app.settings import RunSettings, parse_settings
from sft_app.ui.compare.scorecard_views import changed_rows_view, scorecard_view
from tests.export.run_folders import NASTY, finish, make_run, part, whole_card, whole_values

JUDGEMENT = {"base_first": "B", "tuned_first": "A", "address": "http://10.0.0.7/v1", "checklist": "c"}
HEADINGS = [
    "What changed",
    "Did it forget?",
    "How it learned",
    "Side by side",
    "Blind votes",
    "Judged by a model",
    "The data",
    "Training",
    "Model, machine and versions",
    "How to reproduce it",
]


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, headings, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self._in_heading = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False


@pytest.fixture
def run(home: Path) -> Run:
    """A run with everything a report can tell."""
    run = make_run(home)
    finish(run)
    run.keep_scorecard(whole_card())
    add_pairs(
        run,
        [
            AnswerPair(prompt=f"Question {n}?", base="It is what it is.", tuned=f"Sorry about {n}!", reference="Given.")
            for n in range(9)
        ],
    )
    for voter, choice in (("Ada", "tuned"), ("Bo", "tie")):
        append_jsonl(run.votes_file, {"pair": "p", "voter": voter, "choice": choice, "base_was": "left", "prompt": "Q"})
    append_jsonl(run.judgements_file, {**JUDGEMENT, "pair": read_pairs(run)[0].id, "model": "qwen"})
    return run


def test_the_page_has_every_part_in_the_readers_order(run: Run) -> None:
    page = Page(report_html(run))
    assert page.headings == HEADINGS
    for told in (
        "Shop voice",
        "The model predicts the held-out answers better than before: loss −25%",
        "−2.000 … −0.500",
        "Something was forgotten: the model predicts the answers to 20 general questions",
        "ROUGE-L vs. reference",
        "2 people voted without seeing which answer was which",
        "qwen compared 1 of 9 pairs, each in both orders. The fine-tuned answer won 1 of the 1",
        "The judge's choices are shown, but do not count yet",
        "org/model",
        "abc123",
        "1 × Great GPU, 16 cores",
        "f" * 64,
        "7 rows could not be used",
        "torch 2.11.0",
        "python -m sft_app train --config settings.json",
    ):
        assert told in page.text, told
    assert '"num_train_epochs": 1.6' in page.text and f"All {len(RunSettings.model_fields)} settings" in page.text


def test_the_markdown_has_the_same_facts(run: Run) -> None:
    text = report_markdown(run)
    assert text.startswith("# Shop voice\n")
    assert "| loss | 4.000 | 3.000 | −1.000 | −2.000 … −0.500 | better |" in text
    for told in ("Did it forget? General questions", "Something was forgotten", "2 people", "org/model", "Great GPU"):
        assert told in text, told
    assert "## Judged by a model\n\nqwen compared 1 of 9 pairs" in text
    assert text.count("**Fine-tuned**") == 3
    assert "\n\n\n" not in text


@pytest.mark.parametrize("make", [report_html, report_markdown])
def test_no_folder_of_this_machine_is_told(home: Path, make: Any) -> None:
    folder = home / "models" / "mine"
    model = ModelRecord(name=str(folder), location=str(folder), revision=None, source="local folder")
    run = make_run(home, model)
    add_pairs(run, [AnswerPair(prompt="Q?", base="a", tuned="b")])
    judge = {"pair": read_pairs(run)[0].id, "model": str(folder / "judge.gguf")}
    append_jsonl(run.judgements_file, {**JUDGEMENT, **judge})
    finish(run, state="failed", message=f"No room in {home}/runs; see '{home / 'My files' / 'a.log'}' and ~/x/y.txt.")
    text = make(run)
    assert str(home) not in text and str(home.parent) not in text and "~/x" not in text
    assert (
        "shop.jsonl" in text and "mine" in text and "judge.gguf compared 1 of 1 pair," in text and "private" not in text
    )
    assert not re.search(r"/(tmp|home|root|Users)/", text)


def test_what_people_and_models_write_stays_text(home: Path) -> None:
    run = make_run(home, name=NASTY[:80], system_prompt=NASTY, watch_prompts=[NASTY])
    finish(run)
    add_pairs(run, [AnswerPair(prompt=NASTY, base=NASTY + " base", tuned=NASTY + " tuned", reference=NASTY)])
    append_jsonl(run.votes_file, {"pair": "p", "voter": NASTY, "choice": "tuned"})
    append_jsonl(run.votes_file, {"pair": "p", "voter": "Bo", "choice": "tuned"})
    append_jsonl(run.judgements_file, {**JUDGEMENT, "pair": read_pairs(run)[0].id, "model": NASTY})
    html = report_html(run)
    assert "<script" not in html
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "div", "span"),
        *(
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "dl",
            "dt",
            "dd",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "strong",
            "small",
        ),
        *("em", "i", "b", "u", "mark", "code", "pre", "details", "summary", "svg", "path", "figure", "figcaption"),
    }
    assert page.text.count("<script>alert(1)</script>") > 6


def test_the_page_loads_nothing(run: Run) -> None:
    html = report_html(run)
    page = Page(html)
    loading = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}
    assert [(tag, attrs) for tag, attrs in page.elements if loading & set(attrs)] == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "base"})
    assert "@import" not in html and "url(" not in html and "http" not in re.sub('http-equiv="[^"]+"', "", html)
    policy = dict(next(attrs for _, attrs in page.elements if attrs.get("http-equiv")))
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_an_older_scorecard_says_what_was_not_measured(run: Run) -> None:
    run.keep_scorecard(Scorecard.model_validate(part(-2.0, -1.0, -0.5)))
    page = Page(report_html(run))
    assert "Did it forget?" not in page.headings
    assert "Not measured: both sides' own answers and forgetting." in page.text
    assert f"python -m sft_app score {run.id}" in page.text
    assert "Not measured" in report_markdown(run)


def test_without_a_scorecard_the_losses_of_training_are_told(home: Path) -> None:
    run = make_run(home)
    finish(run)
    page = Page(report_html(run))
    assert "Held-out loss 4.00 → 3.00 (-25%), measured during training." in page.text
    assert "The run has no scorecard." in page.text and "Blind votes" not in page.headings
    assert "Held-out loss 4.00 → 3.00" in report_markdown(run)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, "is queued"),
        ({"state": "stopped", "message": "Stopped before it began."}, "was stopped early"),
        ({"state": "failed", "message": "The loss is not a number."}, "This run failed. The report shows what is"),
    ],
)
def test_a_run_that_has_nothing_yet_has_a_report(home: Path, status: dict[str, Any], told: str) -> None:
    run = make_run(home)
    run.update_status(**status)
    for text in (report_html(run), report_markdown(run)):
        assert told in text and status.get("message", "") in text
        assert "has saved no adapter" in text
    assert "No loss has been logged." in report_html(run)


def test_settings_are_told_from_the_preset_and_repeat_the_run(home: Path) -> None:
    run = make_run(home, max_steps=12, watch_prompts=["Where?"], learning_rate=0.003)
    text = report_markdown(run)
    changed = re.findall(r"^  - (\S+): (.*)$", text, flags=re.M)
    assert changed == [("watch\\_prompts", "Where?")] and "0.003, cosine" in text  # the rate has a line of its own
    values = json.loads(text.split("```\n")[3])
    asked = run.record().settings.model_copy(update={"data": "shop.jsonl", "revision": "abc123"})
    assert parse_settings(values) == asked


def test_data_of_the_hub_keeps_its_name_and_tells_its_licence(home: Path) -> None:
    hub = {"id": "org/set", "config": None, "split": "train", "commit": "0123abc", "licence": "cc-by-4.0"}
    text = report_markdown(make_run(home, data="org/set", source={"hub": hub}))
    for told in ("Source: org/set", "Commit: 0123abc", "Licence: cc-by-4.0", '"data": "org/set"'):
        assert told in text
    assert "This needs" not in text


def test_pairs_are_chosen_or_the_most_changed_ones(run: Run) -> None:
    pairs = collect_pairs(run)
    assert report_html(run).count("<article>") == SHOWN < len(pairs)
    html = report_html(run, [pairs[7].id])
    assert html.count("<article>") == 1 and f">{pairs[7].prompt}</h3>" in html
    assert "1 of the 9 questions both sides answered, chosen by hand." in html
    assert report_html(run, []).count("<article>") == 0


def test_the_words_that_differ_are_marked(home: Path) -> None:
    run = make_run(home)
    add_pairs(run, [AnswerPair(prompt="Q?", base="I am sorry.", tuned="I am very sorry.")])
    assert "I am<mark> very</mark> sorry." in report_html(run)


def test_pairs_come_from_what_was_kept_scored_and_watched(home: Path) -> None:
    run = make_run(home)
    finish(run)
    asked = [{"role": "user", "content": "Scored?"}, {"role": "assistant", "content": "Given."}]
    row = {"row": 3, "messages": asked, "base_loss": 2.0, "tuned_loss": 1.0}
    rows = [{**row, "answers": ["a b", "a c"]}, {**row, "answers": []}]
    run.keep_scorecard(whole_card(most_changed={"improved": rows, "damaged": []}))
    add_pairs(run, [AnswerPair(prompt="Kept?", base="x y z", tuned="x y w")])
    for step, text in ((0, "before"), (4, "after"), (8, "later")):
        run.log_snapshot(step=step, answers=[{"prompt": "Watched?", "answer": text, "finished": True}])
    assert [(pair.prompt, pair.tuned, pair.reference) for pair in collect_pairs(run)] == [
        ("Watched?", "after", ""),
        ("Scored?", "a c", "Given."),
        ("Kept?", "x y w", ""),
    ]


def test_losses_that_are_no_numbers_are_no_curves(home: Path) -> None:
    run = make_run(home)
    run.log_metric(step=1, loss=float("nan"))
    html = report_html(run)
    assert "No loss has been logged." in html and "At step 1 the loss is not a number" in html


def test_a_run_that_cannot_be_read_is_told(home: Path) -> None:
    run = make_run(home)
    write_json_atomically(run.path / "settings.json", {})
    with pytest.raises(RunError, match=f"settings.json of run {run.id} cannot be read"):
        report_html(run)


def test_a_folder_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="The report could not be written to"):
        write_report(run, tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b", "a \\| b"),
        ("`code` *b* _c_", "\\`code\\` \\*b\\* \\_c\\_"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("# title", "\\# title"),
        ("- item", "\\- item"),
        ("12. item", "12\\. item"),
        ("---", "\\---"),
        ("-5 and 3.14", "-5 and 3.14"),
        ("    code", "code"),
        ("two\nlines\ttab", "two lines tab"),
        ("![x](y)", "\\!\\[x\\](y)"),
    ],
)
def test_markdown_shows_the_text_itself(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


def test_nothing_written_breaks_the_markdown(home: Path) -> None:
    run = make_run(home, name="a | b `c`", watch_prompts=["```\nx"], system_prompt=NASTY)
    finish(run)
    run.keep_scorecard(whole_card())
    pair = AnswerPair(prompt=NASTY, base=NASTY + "\r\n| - |", tuned="    code\n===\n1. one\n" + NASTY)
    add_pairs(run, [pair])
    tokens = MarkdownIt("commonmark").enable("table").parse(report_markdown(run))
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings == [
        "a \\| b \\`c\\`",
        "What changed",
        "Reference answers",
        "The models' own answers",
        "Did it forget? General questions",
        "Examples",
        "Data",
        "Training",
        "How to reproduce it",
    ]
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline}.isdisjoint({"html_inline", "link_open", "image"})
    html = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert html == ["<details>\n<summary>settings.json</summary>", "</details>"]
    repeated = json.loads([token.content for token in tokens if token.type == "fence"][1])
    assert (repeated["system_prompt"], repeated["watch_prompts"]) == (NASTY, ["```\nx"])
    rows = [token for token in tokens if token.type == "tr_open"]
    assert len(rows) == 3 + 1 + 3 + 3  # a head and its lines, of three tables
    assert quoted_texts(tokens) == [text.split() for text in (pair.prompt, pair.base, pair.tuned)]


def quoted_texts(tokens: list[Any]) -> list[list[str]]:
    """The words of each block quote as they are shown; a quote has paragraphs and nothing else in it."""
    found: list[list[str]] = []
    inside = False
    for token in tokens:
        if token.type == "blockquote_open":
            found.append([])
        inside = token.type == "blockquote_open" or (inside and token.type != "blockquote_close")
        if inside and token.type == "inline":
            shown = "".join("\n" if child.type.endswith("break") else child.content for child in token.children)
            found[-1] += shown.split()
        assert not inside or token.type in ("blockquote_open", "paragraph_open", "paragraph_close", "inline")
    return found


def test_an_interval_of_what_cannot_be_judged_is_not_drawn(home: Path) -> None:
    """A file of an older version, which counted tokens that logits of NaN had predicted."""
    run = make_run(home)
    finish(run)
    card = whole_values()
    for half in (card, card["general"]):
        half["tuned"]["loss"] = None
        half["difference"]["token_accuracy"] = {"value": 0.25, "low": 0.1, "high": 0.4}
    write_json_atomically(run.path / "scorecard.json", card)
    html = report_html(run)
    assert '<i class="span">' not in html
    for text in (html, report_markdown(run), model_card(run, "me/it"), scorecard_view(Scorecard.model_validate(card))):
        words = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
        assert not re.search(r">better<|>worse<|\| better \||\| worse \||15 of 20", words)


def test_answers_that_broke_off_are_no_examples(home: Path) -> None:
    run = make_run(home)
    finish(run)
    messages = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello"}]
    row = {"row": 1, "messages": messages, "base_loss": 4.0, "tuned_loss": 3.0, "answers": ["Whole.", None]}
    run.keep_scorecard(whole_card(most_changed={"improved": [row], "damaged": []}))
    run.log_snapshot(step=0, answers=[{"prompt": "Who?", "answer": "Me.", "finished": True}])
    run.log_snapshot(step=4, answers=[{"prompt": "Who?", "answer": "", "finished": False, "broken": True}])
    assert collect_pairs(run) == []
    assert "it produced NaN or infinite values" in changed_rows_view(run.scorecard())


@pytest.mark.parametrize("word", ["NaN", "null"])
def test_a_run_without_a_number_is_never_shown_as_a_result(home: Path, word: str) -> None:
    """Its folder as older versions wrote it, and as this one does: report, card, page and command line."""
    run = make_run(home)
    finish(run)
    run.metrics_file.write_text(f'{{"step": 0, "heldout_loss": 4.0}}\n{{"step": 4, "heldout_loss": {word}}}\n')
    shown = json.dumps(broken_card()).replace("NaN", word)
    (run.path / "scorecard.json").write_text(shown)
    card = run.scorecard()
    assert card is not None
    lines = "".join(map(str, scorecard_lines(card)))
    for text in (report_html(run), report_markdown(run), model_card(run, "me/it"), scorecard_view(card), lines):
        words = re.sub(r"<style>.*?</style>", "", text, flags=re.S).lower()
        assert "not a number: cannot be judged" in words
        assert not re.search(r"\bnan\b|[−+-]nan|nan%|>better<|better than before", words)
    assert "the fine-tuned model cannot be judged" in report_markdown(run).lower()


def broken_card() -> dict[str, Any]:
    """Of a run whose adapter has become NaN."""
    card, nan = whole_values(), float("nan")
    for half in (card, card["general"], card["answers"]):
        half["tuned"] = dict.fromkeys(half["tuned"], nan)
        half["difference"] = {name: dict.fromkeys(("value", "low", "high"), nan) for name in half["difference"]}
    card["rows"] = {"better": 0, "worse": 0, "equal": 0, "not_a_number": 20}
    return card
