"""The cells of a table decide which columns can be question and answer, and only then their names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft_app.data.formats.column_profiles import profile_columns
from sft_app.data.formats.detection import detect_layouts
from sft_app.errors import DataError

Rows = list[dict[str, Any]]

QUESTIONS = [
    "Can I plant basil outside in March?",
    "My cup arrived chipped, what can I do?",
    "How long does delivery to Malta take?",
    "Where do I find the care leaflet for my fern?",
    "Do you repot large figs, and what does it cost?",
    "The glaze is flaking off. Is that normal?",
    "Can I change the address of order 4711?",
    "Which soil suits a cactus?",
]
ANSWERS = [
    "Please wait until mid-May. Basil dies below 10 °C.",
    "We are sorry! Send us a photo and we replace it free of charge.",
    "About nine working days.",
    "It is on our page under Care, as a PDF.",
    "Yes, up to 40 cm for 18 €, soil included.",
    "No, that is a fault. Please send it back.",
    "Yes, as long as it has not left our house.",
    "A gritty mix with plenty of sand.",
]
NAMES = ["Joe", "Orla", "Joe", "Benno", "Orla", "Joe", "Benno", "Imke"]
PEOPLE = ["Ann Lee", "Bo Chen", "Cy de Vries", "Di Okafor", "Ed Sato", "Flo Müller", "Gus Ivanov", "Hal O'Brien"]
TOPICS = ["Plants", "Cups", "Delivery", "Plants", "Plants", "Cups", "Delivery", "Plants"]
DATES = [f"2025-03-{day:02}" for day in range(1, 9)]
IDS = [f"T-{2000 + n}" for n in range(8)]


def table(rows: int = 8, **columns: list[str]) -> Rows:
    """More rows than eight are the same questions and answers of other customers."""
    return [
        {
            name.replace("_", " "): f"{cells[n % 8]}{'' if n < 8 or len(set(cells)) < 8 else f' ({n})'}"
            for name, cells in columns.items()
        }
        for n in range(rows)
    ]


def reading(rows: Rows) -> tuple[tuple[str, ...], bool]:
    best = detect_layouts(rows)[0]
    return best.columns, best.is_certain


@pytest.mark.parametrize("rows", [3, 5, 8, 40])
@pytest.mark.parametrize(
    ("columns", "user", "assistant"),
    [
        (
            {
                "Ticket": IDS,
                "Date": DATES,
                "Agent": NAMES,
                "Customer_question": QUESTIONS,
                "Our_reply": ANSWERS,
                "Topic": TOPICS,
            },
            "Customer question",
            "Our reply",
        ),
        (
            {"ID": IDS, "Date": DATES, "User": PEOPLE, "Inquiry": QUESTIONS, "Agent_response": ANSWERS},
            "Inquiry",
            "Agent response",
        ),
        ({"Customer": PEOPLE, "Question": QUESTIONS, "Support": NAMES, "Reply": ANSWERS}, "Question", "Reply"),
        ({"Frage": QUESTIONS, "Antwort": ANSWERS, "Mitarbeiter": NAMES}, "Frage", "Antwort"),
        ({"Kunde": PEOPLE, "Anfrage": QUESTIONS, "Berater": NAMES, "Lösung": ANSWERS}, "Anfrage", "Lösung"),
        ({"Cliente": PEOPLE, "Consulta": QUESTIONS, "Agente": NAMES, "Respuesta": ANSWERS}, "Consulta", "Respuesta"),
        (
            {"Client": PEOPLE, "Demande": QUESTIONS, "Agent": NAMES, "Réponse": ANSWERS, "Sujet": TOPICS},
            "Demande",
            "Réponse",
        ),
        ({"user": QUESTIONS, "assistant": ANSWERS}, "user", "assistant"),
        ({"customer": QUESTIONS, "agent": ANSWERS, "topic": TOPICS}, "customer", "agent"),
    ],
)
def test_names_of_people_dates_ids_and_topics_are_never_question_or_answer(
    columns: dict[str, list[str]], user: str, assistant: str, rows: int
):
    assert reading(table(rows, **columns)) == ((f"user={user}", f"assistant={assistant}"), True)


@pytest.mark.parametrize(
    ("columns", "user", "assistant"),
    [
        ({"Agent": NAMES, "What_they_wrote": QUESTIONS, "What_we_wrote": ANSWERS}, "What they wrote", "What we wrote"),
        ({"Answer": NAMES, "Kundentext": QUESTIONS, "Unser_Text": ANSWERS}, "Kundentext", "Unser Text"),
        ({"question": IDS, "answer": TOPICS, "they": QUESTIONS, "we": ANSWERS}, "they", "we"),
        ({"prompt": PEOPLE, "response": DATES, "they": QUESTIONS, "we": ANSWERS}, "they", "we"),
    ],
)
def test_cells_outweigh_the_name(columns: dict[str, list[str]], user: str, assistant: str):
    assert reading(table(**columns)) == ((f"user={user}", f"assistant={assistant}"), False)


@pytest.mark.parametrize("rows", [5, 8, 30])
def test_column_with_few_texts_is_never_guessed_to_be_the_answer(rows: int):
    canned = ["Thank you, we look into it.", "Thank you, it is on its way."] * 4
    rows_of = table(rows, Nachricht=QUESTIONS, Antwort=canned)
    with pytest.raises(DataError, match="`Antwort` contains too few different texts"):
        detect_layouts(rows_of)


def test_few_texts_under_well_known_names_are_a_guess_beside_other_columns():
    rows = [{"prompt": f"Where is order {n}?", "completion": "Soon!"} for n in range(9)]
    first = detect_layouts([{**row, "agent": "Joe"} for row in rows])[0]
    assert (first.format, first.is_certain) == ("prompt_completion", False)
    assert "has only 1 text in 9 rows" in first.why
    assert detect_layouts(rows)[0].is_certain  # there is nothing else that could be meant


@pytest.mark.parametrize("rows", [3, 5, 8])
def test_small_faq_stays_certain(rows: int):
    assert detect_layouts(table(rows, question=QUESTIONS, answer=ANSWERS))[0].is_certain
    assert reading(table(rows, Question=QUESTIONS, Answer=ANSWERS)) == (("user=Question", "assistant=Answer"), True)


def test_short_answers_under_a_clear_name_are_read():
    capitals = ["Paris", "Rome", "Oslo", "Bern", "Riga", "Kyiv", "Lima", "Quito"]
    asked = [f"What is the capital of country {n}?" for n in range(8)]
    assert reading(table(Frage=asked, Antwort=capitals)) == (("user=Frage", "assistant=Antwort"), False)


@pytest.mark.parametrize(
    ("columns", "candidates"),
    [
        ({"Question": QUESTIONS, "Answer_1": ANSWERS, "Answer_2": ANSWERS[::-1]}, "`Answer 1`, `Answer 2`"),
        ({"prompt": QUESTIONS, "llama": ANSWERS[::-1], "qwen": ANSWERS}, "`llama`, `qwen`"),
        ({"prompt": QUESTIONS, "model_a": ANSWERS, "model_b": ANSWERS[::-1]}, "`model a`, `model b`"),
        ({"instruction": QUESTIONS, "output": ANSWERS, "response": ANSWERS[::-1]}, "`output`, `response`"),
        ({"question": QUESTIONS, "A": ANSWERS, "B": ANSWERS[::-1], "answer": list("ABABABAB")}, "`A`, `B`"),
        ({"left": QUESTIONS, "middle": ANSWERS, "right": ANSWERS[::-1]}, "`left`, `middle`, `right`"),
    ],
)
def test_person_is_asked_where_nothing_marks_the_answer(columns: dict[str, list[str]], candidates: str):
    with pytest.raises(DataError, match=f"^{re.escape(candidates)} could each be .*--map"):
        detect_layouts(table(**columns))


@pytest.mark.parametrize(
    ("columns", "user", "assistant"),
    [
        ({"prompt": QUESTIONS, "chosen": ANSWERS, "rejected": QUESTIONS[::-1]}, "prompt", "chosen"),
        ({"Frage": QUESTIONS, "Gute_Antwort": ANSWERS, "Schlechte_Antwort": ANSWERS[::-1]}, "Frage", "Gute Antwort"),
        ({"question": QUESTIONS, "best_answer": ANSWERS, "incorrect_answer": ANSWERS[::-1]}, "question", "best answer"),
        ({"query": QUESTIONS, "rejected_response": ANSWERS[::-1], "response": ANSWERS}, "query", "response"),
        ({"Pregunta": QUESTIONS, "Respuesta_rechazada": ANSWERS[::-1], "Respuesta": ANSWERS}, "Pregunta", "Respuesta"),
    ],
)
def test_answer_marked_as_bad_is_never_taken(columns: dict[str, list[str]], user: str, assistant: str):
    best = detect_layouts(table(**columns))[0]
    assert best.is_certain
    assert best.columns in ((f"user={user}", f"assistant={assistant}"), ())  # a well-known table names no columns


def test_only_answer_that_is_marked_as_bad_is_refused():
    with pytest.raises(DataError, match="`rejected` contains answers marked as bad"):
        detect_layouts(table(prompt=QUESTIONS, rejected=ANSWERS))


@pytest.mark.parametrize("speaker", ["role", "speaker", "sender", "from"])
def test_one_message_a_row_is_never_a_question_and_an_answer(speaker: str):
    rows = table(**{"conversation_id": IDS, speaker: ["customer", "agent"] * 4, "message": QUESTIONS})
    [best] = detect_layouts(rows)
    assert (best.format, best.columns) == ("message_rows", ())
    assert f"`{speaker}` names its author" in best.why


def test_instruction_keeps_its_input_and_the_system_prompt():
    rows = table(instruction=QUESTIONS, input=["", "It is red.", *[""] * 6], chosen=ANSWERS, rejected=ANSWERS[::-1])
    expected = ("user=instruction", "assistant=chosen", "system=system", "context=input")
    assert reading([{"system": "You are Nell.", **row} for row in rows]) == (expected, True)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["Orla", "Benno", "Tuva", "Silas"], "name"),
        (["Dr. A. Meier", "Ann van Dyke", "Bo Chen", "Cy Lee"], "name"),
        (["Tue Oct 31", "January 2, 2024 10:10am", "3. März 2025", "12 mai 2024"], "identifier"),
        (["a@b.org", "https://x.org/1", "c@d.org", "550e8400-e29b"], "identifier"),
        (["open", "closed", "open", "closed", "open", "open"], "category"),
        (["red pot", "blue pot", "cup", "saucer"], "label"),
        (QUESTIONS, "prose"),
        (["第0号蕨类植物应该多久浇一次水？", "保持湿润,不要太多。", "每天浇水一次。", "叶子发黄了怎么办？"], "prose"),
        (["same"] * 5, "constant"),
    ],
)
def test_cells_tell_what_a_column_holds(cells: list[str], kind: str):
    [column, _] = profile_columns([{"x": cell, "y": asked} for cell, asked in zip(cells, QUESTIONS, strict=False)])
    assert column.kind == kind


DRAFTS = [f"Hm, {answer} Or so I guess." for answer in ANSWERS]


@pytest.mark.parametrize(
    ("columns", "assistant"),
    [
        ({"question": QUESTIONS, "answer": DRAFTS, "edited_answer": ANSWERS}, "edited answer"),
        ({"question": QUESTIONS, "model_answer": DRAFTS, "reference": ANSWERS}, "reference"),
        ({"question": QUESTIONS, "answer": ANSWERS, "reference": DRAFTS}, "answer"),
        ({"prompt": QUESTIONS, "response": DRAFTS, "final_response": ANSWERS}, "final response"),
        ({"prompt": QUESTIONS, "completion": DRAFTS, "corrected": ANSWERS}, "corrected"),
        ({"question": QUESTIONS, "answer": DRAFTS, "gold": ANSWERS}, "gold"),
        ({"question": QUESTIONS, "generated": DRAFTS, "target": ANSWERS}, "target"),
        ({"instruction": QUESTIONS, "output": DRAFTS, "human_output": ANSWERS}, "human output"),
        ({"question": QUESTIONS, "draft": DRAFTS, "final": ANSWERS}, "final"),
        ({"question": QUESTIONS, "gpt4": DRAFTS, "answer": ANSWERS}, "answer"),
        ({"question": QUESTIONS, "gpt4": DRAFTS, "human": ANSWERS}, "human"),
        ({"Frage": QUESTIONS, "Entwurf": DRAFTS, "Antwort": ANSWERS}, "Antwort"),
        ({"Inquiry": QUESTIONS, "Reply": ANSWERS, "Agent_wrote": DRAFTS}, "Reply"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_versions_the_edited_one_is_a_guess(columns: dict[str, list[str]], assistant: str, turned: bool):
    named = {name.replace("_", " "): cells for name, cells in columns.items()}
    rows = [
        {name: cells[n] for name, cells in (reversed(named.items()) if turned else named.items())} for n in range(8)
    ]
    best = detect_layouts(rows)[0]
    assert (best.columns[1], best.is_certain) == (f"assistant={assistant}", False)
    assert "could also be the answer" in best.why


@pytest.mark.parametrize(
    ("columns", "candidates"),
    [
        ({"question": QUESTIONS, "gpt4": ANSWERS, "llama": DRAFTS}, "`gpt4`, `llama`"),
        (
            {"question": QUESTIONS, "edited_answer": ANSWERS, "revised_answer": DRAFTS},
            "`edited answer`, `revised answer`",
        ),
        ({"history": QUESTIONS, "human_ref_A": ANSWERS, "human_ref_B": DRAFTS}, "`human ref A`, `human ref B`"),
        (
            {"context_of_all": QUESTIONS, "user_reply_1": ANSWERS, "user_reply_2": DRAFTS},
            "`user reply 1`, `user reply 2`",
        ),
    ],
)
def test_versions_of_the_same_rank_are_asked_about(columns: dict[str, list[str]], candidates: str):
    with pytest.raises(
        DataError, match=f"^{re.escape(candidates)} could each be the answer.*user={list(columns)[0][:7]}"
    ):
        detect_layouts(table(**columns))


def test_summary_beside_a_description_is_a_title():
    titles = [text[:20] for text in QUESTIONS]
    rows = table(Issue_key=IDS, Summary=titles, Description=QUESTIONS, Comment=ANSWERS)
    assert reading(rows) == (("user=Description", "assistant=Comment"), False)
    rows = table(Description=QUESTIONS, Summary=ANSWERS)
    assert reading(rows)[0] == ("user=Description", "assistant=Summary")  # nothing else answers
    rows = table(Summary=titles, Description=QUESTIONS, Resolution=ANSWERS)
    assert reading(rows) == (("user=Description", "assistant=Resolution"), False)


def test_answers_from_a_few_texts_are_not_passed_over_for_a_remark():
    canned = ["Thank you, we look into it today.", "Thank you, it is on its way to you."] * 4
    remarks = [f"Handled by the team in the evening, ticket {n} closed." for n in range(8)]
    with pytest.raises(DataError, match="^`Answer`, `Handled by comment` could each be the answer.*assistant=Answer"):
        detect_layouts(table(Question=QUESTIONS, Answer=canned, Handled_by_comment=remarks))


@pytest.mark.parametrize(("good", "bad"), [("chosen", "rejected"), ("accepted", "declined"), ("best", "worst")])
def test_advice_never_names_a_column_of_bad_answers(good: str, bad: str):
    with pytest.raises(DataError, match=f"`{bad}` contains answers marked as bad") as refused:
        detect_layouts(table(**{good: ANSWERS, bad: DRAFTS}))
    assert f"={bad}" not in str(refused.value)
    with pytest.raises(DataError) as refused:
        detect_layouts(table(**{"topic": TOPICS, good: ANSWERS, bad: DRAFTS}))
    assert f"={bad}" not in str(refused.value)
