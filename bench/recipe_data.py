"""Provide the data sets of the recipe bench: different kinds and sizes, all small enough for a CPU."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLE = PROJECT / "examples" / "customer_service.jsonl"
# Rows of public data sets, which are not part of the project.
PUBLIC = PROJECT.parent / "shared" / "data"
JUDGING_ROWS = 30

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class DataSet:
    """Two files: the rows to learn from, and the rows that judge, which are the same for every size of a data set."""

    train: Path
    judging: Path


def write_data_sets(folder: Path) -> dict[str, DataSet]:
    """Write every data set that is available here, by its name. The same rows every time."""
    available = {name: (make(), None) for name, make in DATA_SETS.items()}
    available |= {f"example-{size}": (example_rows(), size) for size in (50, 120)}
    public = {path.stem: path for path in sorted(PUBLIC.glob("*.json")) if path.stem in PUBLIC_SETS}
    available |= {name: (_public_rows(path), None) for name, path in public.items()}
    return {name: _divide(folder / name, rows, size) for name, (rows, size) in available.items()}


def example_rows() -> list[Messages]:
    """Return the bundled example."""
    return [json.loads(line)["messages"] for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]


def labelling_rows(count: int = 200) -> list[Messages]:
    """Return messages to a shop with one of five labels: a task with short answers of a fixed set."""
    return [_turns(f"Label this message: {text}", label) for text, label in _drawn(_labelled, count)]


def form_rows(count: int = 200) -> list[Messages]:
    """Return orders in plain words with the JSON of each: a task with a fixed form."""
    return [_turns(text, json.dumps(fields)) for text, fields in _drawn(_ordered, count)]


def _labelled(draw: random.Random) -> tuple[str, str]:
    label = draw.choice(sorted(_MESSAGES))
    return draw.choice(_MESSAGES[label]).format(item=draw.choice(_ITEMS), days=draw.randint(2, 21)), label


def _ordered(draw: random.Random) -> tuple[str, dict[str, Any]]:
    item, count, day = draw.choice(_ITEMS), draw.randint(1, 12), draw.choice(_DAYS)
    city, is_gift = draw.choice(_CITIES), draw.random() < 0.3
    text = draw.choice(_ORDERS).format(item=item, count=count, day=day, city=city)
    fields = {"item": item, "quantity": count, "city": city, "day": day, "gift": is_gift}
    return text + (" " + draw.choice(_GIFTS) if is_gift else ""), fields


def _drawn(make: Callable[[random.Random], tuple[str, Any]], count: int) -> Iterator[tuple[str, Any]]:
    """Yield `count` different ones."""
    draw, seen = random.Random(0), set()
    while len(seen) < count:
        text, answer = make(draw)
        if text not in seen:
            seen.add(text)
            yield text, answer


def _public_rows(path: Path) -> list[Messages]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [messages for row in rows if (messages := PUBLIC_SETS[path.stem](row))]


def _instruction(row: Mapping[str, Any]) -> Messages:
    question = "\n\n".join(filter(None, (row["instruction"], row.get("input"))))
    return _turns(question, row.get("response") or row.get("output") or "")


def _sharegpt(row: Mapping[str, Any]) -> Messages:
    """The first question and its answer, cut to a length that a CPU can train on."""
    turns = [turn["value"] for turn in row["conversations"]]
    is_short = len(turns) >= 2 and row["conversations"][0]["from"] == "human" and len(turns[0] + turns[1]) < 2500
    return _turns(turns[0], turns[1]) if is_short else []


def _turns(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _divide(path: Path, rows: list[Messages], size: int | None) -> DataSet:
    shuffled = random.Random(0).sample(rows, len(rows))
    judging, train = shuffled[:JUDGING_ROWS], shuffled[JUDGING_ROWS:][:size]
    return DataSet(_write(path.with_suffix(".jsonl"), train), _write(path.with_suffix(".judging.jsonl"), judging))


def _write(path: Path, rows: list[Messages]) -> Path:
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows), encoding="utf-8")
    return path


DATA_SETS: dict[str, Callable[[], list[Messages]]] = {
    "example": example_rows,
    "labelling": labelling_rows,
    "form": form_rows,
}
PUBLIC_SETS: dict[str, Callable[[Mapping[str, Any]], Messages]] = {
    "alpaca": _instruction,
    "gpteacher_roleplay": _instruction,
    "sharegpt": _sharegpt,
}
_ITEMS = ("fern", "clay pot", "watering can", "olive tree", "bonsai", "hand trowel", "seed tray", "rain gauge", "ivy")
_CITIES = ("Leeds", "Bristol", "Cork", "Dundee", "Norwich", "Bath")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_ORDERS = (
    "{count} x {item} to {city} please, {day} if you can.",
    "Could you send {count} of the {item} to my address in {city} by {day}?",
    "I'd like to order the {item}, {count} of them. Delivery in {city} on {day}.",
    "For {day}: {item}, quantity {count}, we are in {city}.",
)
_GIFTS = ("It is a present, so no invoice.", "Please wrap it as a gift.", "It's for my sister's birthday.")
_MESSAGES = {
    "delivery": (
        "My {item} was due {days} days ago and is still not here.",
        "Where is the {item} I ordered {days} days ago?",
        "The tracking of my {item} has not moved for {days} days.",
    ),
    "damage": (
        "The {item} came in pieces, {days} days late as well.",
        "There is a crack in the {item} I got {days} days ago.",
        "My {item} arrived broken after {days} days in the post.",
    ),
    "refund": (
        "I sent the {item} back {days} days ago. When do I get my money?",
        "{days} days since my return and no money for the {item}.",
        "Please pay me back for the {item}; I waited {days} days.",
    ),
    "care": (
        "How often does the {item} need attention? I have had it {days} days.",
        "What is the best way to look after my {item} when I am away for {days} days?",
        "After {days} days my {item} looks dull. What can I do for it?",
    ),
    "praise": (
        "The {item} is lovely, and it took just {days} days. Thank you!",
        "{days} days with my {item} and I am delighted.",
        "Best {item} I ever had, {days} days and counting.",
    ),
}
