"""Which files of recorded answers a visitor may compare with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sft_app.errors import AccessError, AppError
from sft_app.evaluation.sides.more_sides import RecordedSide
from sft_app.inference import sides as model_sides
from sft_app.runs.folder import Run
from sft_app.runtime.home import uploads_dir
from sft_app.ui.context import PageContext
from sft_app.ui.services.access import Access
from tests.ui.test_permissions import OWNER, SPACE, STRANGER


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    file = tmp_path / "answers.csv"
    file.write_text("prompt,answer\nWhy?,Because.\n")
    return file


def names_of_more(context: PageContext, run: Run, file: Path) -> list[str]:
    _, more = context.sides.find_with_more(model_sides.BASE, run.id, [str(file)])
    assert all(isinstance(side, RecordedSide) for side in more)
    return [side.name for side in more]


def test_at_home_any_file_can_be_a_side(home: Path, finished_run: Run, answers: Path) -> None:
    assert names_of_more(PageContext(home), finished_run, answers) == ["answers.csv"]


def test_on_a_space_only_an_uploaded_file_can_be_a_side(
    home: Path, finished_run: Run, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Access, "visitor", lambda self: OWNER)
    context = PageContext(home, SPACE)
    assert names_of_more(context, finished_run, context.uploads.take(answers)) == ["answers.csv"]
    around = uploads_dir(home) / ".." / finished_run.train_file.relative_to(home)
    for file in (answers, finished_run.train_file, around, Path("answers.csv"), Path("ann/answers.csv")):
        with pytest.raises(AccessError, match=r"^Recorded answers .* cannot be used on a Space\. Upload the file"):
            names_of_more(context, finished_run, file)


def test_an_uploaded_file_is_no_model(home: Path, answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Access, "visitor", lambda self: STRANGER)
    context = PageContext(home, SPACE)
    kept = str(context.uploads.take(answers))
    for left, right in ((kept, "base"), ("base", kept)):
        with pytest.raises(AppError, match="cannot be used on a Space. Use the name of an adapter on the Hub"):
            context.sides.find(left, right)


def test_a_space_that_compares_one_adapter_takes_no_recorded_answers(home: Path, answers: Path) -> None:
    context = PageContext(home, replace(SPACE, adapter="ann/shop"))
    with pytest.raises(AccessError, match="This Space compares ann/shop with its base model, and nothing else"):
        context.access.check_recorded(str(context.uploads.take(answers)))


def test_a_click_before_the_page_knows_the_right_side_compares_with_the_newest_run(
    home: Path, finished_run: Run
) -> None:
    context = PageContext(home)
    assert context.sides.default_right() == finished_run.id
    assert [side.name for side in context.sides.find("base", None)] == ["base", finished_run.id]
    with pytest.raises(AppError, match="Both sides are the base model"):
        context.sides.find("base", "")
