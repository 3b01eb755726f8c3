"""Tools reach a chat template in its own form if nothing of them is lost, and as text otherwise."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.reading import load_data, open_data
from sft_app.data.tokens import render_conversation, render_last_prompt, render_prompt
from sft_app.data.tool_templates import tool_notes
from sft_app.settings import parse_settings
from tests.chat_styles import CHATML, mark_trained
from tests.conftest import make_character_tokenizer

TOOL = {
    "name": "weather",
    "description": 'Looks "it" up.',
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string", "description": "Where."}},
        "required": ["town"],
    },
}
USER = {"role": "user", "content": "Warm?"}
CALL = {"name": "weather", "arguments": {"town": 'Bad "Ems"', "days": 3}}
RESULT, ANSWER = {"role": "tool", "content": "12 C"}, {"role": "assistant", "content": "Mild."}
ROW = [
    {"role": "system", "content": "Be.", "tools": [TOOL]},
    USER,
    {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": CALL}]},
    RESULT,
    ANSWER,
]
# Takes arguments as an object (`items`) or as JSON in a string (`~`), and everything else.
HEAD = (
    "{% for tool in tools or [] %}{{ '[' + tool.function | tojson + ']' }}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}"
)
CALLS = "{% for call in message.tool_calls or [] %}{{ '{' + call.function.name + ' ' + ARGUMENTS + '}' }}{% endfor %}"
TAIL = "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
AS_TEXT = HEAD + CALLS.replace("ARGUMENTS", "call.function.arguments") + TAIL
AS_OBJECT = HEAD + CALLS.replace("ARGUMENTS", "call.function.arguments.items() | list | tojson") + TAIL
WITHOUT_ARGUMENTS = HEAD + CALLS.replace("ARGUMENTS", "''") + TAIL
NATIVE, TEXT = "Tool definitions and calls are written as the model's", "Tool definitions and calls are written as text"


def marked(tokenizer: Any, conversation: Conversation) -> str:
    rendered = render_conversation(tokenizer, conversation, 10_000)
    return mark_trained(tokenizer, rendered.input_ids, rendered.labels)


def made(template: str, row: list[dict[str, Any]] | None = None) -> tuple[str, str]:
    """The marked text, and which way the tools were written."""
    tokenizer, conversation = make_character_tokenizer(template), make_conversation(row or ROW)
    return marked(tokenizer, conversation), tool_notes(tokenizer, conversation)[0]


@pytest.mark.parametrize(
    ("template", "call"),
    [
        (AS_TEXT, '{weather {"town": "Bad \\"Ems\\"", "days": 3}}'),
        (AS_OBJECT, '{weather [["town", "Bad \\"Ems\\""], ["days", 3]]}'),
    ],
    ids=["text", "object"],
)
def test_a_template_gets_arguments_as_it_takes_them(template: str, call: str):
    text, note = made(template)
    assert text == (
        f"[{json.dumps(TOOL)}]<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nWarm?<|im_end|>\n"
        f"<|im_start|>assistant\n«{call}<|im_end|>»\n<|im_start|>tool\n12 C<|im_end|>\n"
        "<|im_start|>assistant\n«Mild.<|im_end|>»\n"
    )
    assert note.startswith(NATIVE)


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        WITHOUT_ARGUMENTS,
        AS_TEXT.replace("{{ '[' + tool.function | tojson + ']' }}", "{{ tool.function.name }}"),
        AS_TEXT.replace("message.content", "('' if message.role == 'tool' else message.content)"),
    ],
    ids=["takes none", "drops arguments", "drops the definition", "drops results"],
)
def test_a_template_that_would_lose_a_part_gets_text(template: str):
    text, note = made(template)
    assert '<tools>\n[{"name": "weather", ' in text and note.startswith(TEXT)
    assert '«<tool_call>\n{"name": "weather", "arguments": {"town": "Bad \\"Ems\\"", "days": 3}}\n</tool_call>' in text


EACH = HEAD.replace("tool.function | tojson", "PART").replace("message.content", "(message.content or '')") + (
    "{% for call in message.tool_calls or [] %}{{ CALL }}{% endfor %}" + TAIL
)
WHOLE, NAMED = "tool.function | tojson", "tool.function.name ~ tool.function.description"
PIECES = f"{NAMED} ~ (tool.function.parameters.properties | tojson)"


def calling(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    return [ROW[0], USER, {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": a} for a in calls]}]


@pytest.mark.parametrize(
    ("definition", "call", "row"),
    [
        (WHOLE, "(call.function | tojson) if loop.last else ''", calling({"a": 1}, {"a": 10})),
        (WHOLE, "(call.function | tojson) if loop.last else ''", calling({"a": "b"}, {"a": "b"})),
        (WHOLE, "call.function.name ~ (call.function.arguments.keys() | list | tojson)", calling({"a": True})),
        (WHOLE, "call.function.name ~ (call.function.arguments.keys() | list | tojson)", calling({"a": 7})),
        (WHOLE, "(call.function | tojson) | replace('null', 'false')", calling({"a": None, "b": True})),
        (WHOLE, "(call.function | tojson) | replace('true', 'false')", calling({"a": [False, True]})),
        (PIECES, "call.function | tojson", calling({"a": 1})),
    ],
    ids=["a call", "the same call", "a switch", "a number", "null", "one of two switches", "required"],
)
def test_a_part_that_is_lost_once_is_found(definition: str, call: str, row: list[dict[str, Any]]):
    assert made(EACH.replace("PART", definition).replace("CALL", call), row)[1].startswith(TEXT)
    assert made(EACH.replace("PART", WHOLE).replace("CALL", "call.function | tojson"), row)[1].startswith(NATIVE)


@pytest.mark.parametrize("key", ["required", "default", "minimum", "format", "nullable"])
def test_every_word_of_a_definition_is_written_or_the_tools_are_text(key: str):
    town = {"type": "string", "description": "Of", "default": "Ems", "minimum": 5, "format": "x", "nullable": False}
    parameters = {"type": "object", "properties": {"town": town}, "required": ["town"]}
    row = [{**ROW[0], "tools": [{**TOOL, "parameters": parameters}]}, *ROW[1:]]
    said = " ~ ' ' ~ ".join(f"tool.function.parameters.properties[name].{word}" for word in town)
    required = "(tool.function.parameters.required | tojson)"
    definition = (
        f"{NAMED} ~ {required} }}}}"
        f"{{% for name in tool.function.parameters.properties %}}{{{{ name ~ {said} }}}}{{% endfor %}}{{{{ ''"
    )
    template = EACH.replace("PART", definition).replace("CALL", "call.function | tojson")
    assert made(template, row)[1].startswith(NATIVE)
    lost = template.replace(required, "''") if key == "required" else template.replace(f"[name].{key}", "[name].type")
    assert made(lost, row)[1].startswith(TEXT)


def test_words_before_a_call_are_kept_and_trained():
    row = [ROW[0], USER, {**ROW[2], "content": "A moment."}, RESULT, ANSWER]
    text, note = made(AS_TEXT, row)
    assert '«A moment.{weather {"town"' in text and note.startswith(NATIVE)
    dropping = AS_TEXT.replace("message.content }}", "('' if message.tool_calls else message.content) }}")
    assert made(dropping)[1].startswith(NATIVE)
    text, note = made(dropping, row)
    assert "«A moment.\n<tool_call>" in text and note.startswith(TEXT)


def test_a_call_that_is_only_context_is_not_trained():
    text, note = made(AS_TEXT, [*ROW[:2], {**ROW[2], "weight": 0}, *ROW[3:]])
    assert text.count("«") == 1 and "«Mild.<|im_end|>»" in text and note.startswith(NATIVE)


def test_several_calls_are_trained_with_the_last_token():
    calls = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"n": 1}}]
    text, _ = made(AS_TEXT, [USER, {"role": "assistant", "tool_calls": calls}, RESULT, RESULT, ANSWER])
    assert '«{a {}}{b {"n": 1}}<|im_end|>»\n<|im_start|>tool' in text


@pytest.mark.parametrize("call", [{"name": "a", "arguments": "no json"}, "a(1)", {"name": "a", "strange": 1}])
def test_a_call_that_has_no_other_form_stays_text(call: Any):
    text, note = made(AS_TEXT, [USER, {"role": "assistant", "tool_calls": [call]}, RESULT, ANSWER])
    assert "«<tool_call>" in text and note.startswith(TEXT)


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("qwen3", '«<tool_call>\n{"name": "weather", "arguments": %s}\n</tool_call><|im_end|>»'),
        ("llama3_1", '«{"name": "weather", "parameters": %s}<|eot_id|>»'),
        ("gptoss", "« to=functions.weather<|channel|>commentary json<|message|>%s<|call|>»"),
        ("gemma4", '«<|tool_call>call:weather{days:3,town:<|"|>Bad "Ems"<|"|>}<tool_call|><|tool_response>»'),
    ],
)
def test_the_templates_of_models_write_a_turn_as_the_model_would(name: str, turn: str):
    """As TRL ships them; the result of the tool is context."""
    text = (files("trl") / "chat_templates" / f"{name}.jinja").read_text()
    specials = ["<|eot_id|>", "<|call|>", "<|start|>", "<|tool_response>", "<turn|>", "<|return|>"]
    tokenizer = make_character_tokenizer(text, specials)
    tokenizer.bos_token = "<|start|>"
    conversation = make_conversation(ROW)
    found = marked(tokenizer, conversation)
    assert turn.replace("%s", json.dumps(CALL["arguments"])) in found
    assert "12 C" not in "".join(part.split("»")[0] for part in found.split("«")[1:])
    assert tool_notes(tokenizer, conversation)[0].startswith(NATIVE)


def test_the_question_is_asked_with_the_tools_as_in_training():
    tokenizer, conversation = make_character_tokenizer(AS_TEXT), make_conversation(ROW)
    ids = render_conversation(tokenizer, conversation, 10_000).input_ids
    for turn in (2, 4):
        prompt = render_prompt(tokenizer, conversation.as_structured()[:turn])
        assert ids[: len(prompt)] == prompt


def test_the_form_of_the_tools_is_decided_once_for_training_and_asking():
    """The words before the call would be lost, which the prompt alone does not show."""
    dropping = AS_TEXT.replace("message.content }}", "('' if message.tool_calls else message.content) }}")
    tokenizer = make_character_tokenizer(dropping)
    conversation = make_conversation([ROW[0], USER, {**ROW[2], "content": "A moment."}])
    rendered = render_conversation(tokenizer, conversation, 10_000)
    first = next(place for place, label in enumerate(rendered.labels) if label >= 0)
    assert tool_notes(tokenizer, conversation)[0].startswith(TEXT)
    assert rendered.input_ids[:first] == render_last_prompt(tokenizer, conversation)


def test_tools_come_back_from_the_run_folder_and_from_a_cleaned_copy(tmp_path: Path):
    """From the layouts that files have, once more through what the app writes itself."""
    rows = [
        {
            "messages": [USER, {"role": "assistant", "tool_calls": [{"function": CALL}]}, RESULT, ANSWER],
            "tools": [TOOL],
        },
        {
            "conversations": [
                {"from": "human", "value": "Warm?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "12 C"},
                {"from": "gpt", "value": "Mild."},
            ],
            "tools": json.dumps([TOOL]),
        },
    ]
    for number, row in enumerate(rows):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row) + "\n")
        [conversation] = load_data(open_data(parse_settings({"data": str(file)}).reading(), tmp_path), 10).conversations
        copied = make_conversation(json.loads(json.dumps(conversation.as_copied())))
        assert copied.as_structured() == conversation.as_structured()
        again = make_conversation(json.loads(json.dumps(conversation.as_structured())))
        assert again.as_dicts() == conversation.as_dicts()
        assert again.as_structured() == conversation.as_structured()
        tokenizer = make_character_tokenizer(AS_TEXT)
        assert f"[{json.dumps(TOOL)}]<|im_start|>user" in marked(tokenizer, again)
        assert '«{weather {"town": "Bad \\"Ems\\"", "days": 3}}<|im_end|>»' in marked(tokenizer, again)


def test_no_tools_need_no_note(tokenizer: Any):
    assert tool_notes(tokenizer, make_conversation([USER, ANSWER])) == []
