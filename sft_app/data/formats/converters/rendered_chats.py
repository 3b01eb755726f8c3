"""Read a chat that a template has already rendered to one text as its turns.

Source: the chat templates of ChatML, Llama 2 and Llama 3; openassistant-guanaco; glaive-function-calling-v2.
"""

from __future__ import annotations

import json
import re

from sft_app.data.messages import RawMessages, role_named

CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
LLAMA3 = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL)
INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=</s>|<s>|\[INST\]|\Z)", re.DOTALL)
SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>(.*)", re.DOTALL)
HASHED = re.compile(r"###\s*(System|Instruction|Human|User|Input|Assistant|Response)\s*:", re.IGNORECASE)
NAMED = re.compile(r"(?:\A\s*|\n\s*\n\s*)(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):")
ENDS = re.compile(r"\s*(?:</?s>|<\|endoftext\|>|<\|end_of_text\|>)\s*\Z")
FUNCTION_CALL = re.compile(r"\A<functioncall>\s*(\{.*\})\s*\Z", re.DOTALL)
ASKING = ("instruction", "human", "user")


def rendered_turns(text: str) -> RawMessages:
    """Split a rendered chat into its turns; [] if the text is none, or has no question and answer."""
    for pattern in (CHATML, LLAMA3):
        if found := pattern.findall(text):
            return _checked([_turn(role, said) for role, said in found])
    if "[/INST]" in text:
        return _checked([turn for asked, answer in INST.findall(text) for turn in _instructed(asked, answer)])
    for pattern in (HASHED, NAMED):
        if pattern.match(text.lstrip() if pattern is HASHED else text) or pattern is HASHED:
            _, *parts = pattern.split(text)
            if turns := _checked([_turn(name, said) for name, said in zip(parts[::2], parts[1::2], strict=True)]):
                return turns
    return []


def _turn(name: str, said: str) -> dict[str, object]:
    called = name.lower()
    role = "user" if called in (*ASKING, "input") else "assistant" if called == "response" else role_named(called)
    text = ENDS.sub("", said).strip()
    if called == "function response":
        return {"role": "tool", "content": text}
    if role == "assistant" and (call := FUNCTION_CALL.match(text)):
        return {"role": role, "content": "", "tool_calls": [_call(call[1])]}
    return {"role": role or called, "content": text}


def _call(text: str) -> object:
    """Read glaive's call, whose arguments are JSON within single quotes."""
    plain = re.sub(r"'(\{.*\})'", r"\1", text, flags=re.DOTALL)
    try:
        return json.loads(plain)
    except ValueError:
        return text


def _instructed(asked: str, answer: str) -> RawMessages:
    system = SYS.match(asked)
    turns = [_turn("system", system[1])] if system else []
    turns.append(_turn("user", system[2] if system else asked))
    return [*turns, _turn("assistant", answer)] if answer.strip() else turns


def _checked(turns: RawMessages) -> RawMessages:
    """Return the turns, with Alpaca's input joined to its instruction, if a question is followed by an answer."""
    joined: RawMessages = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"] == "user":
            joined[-1]["content"] += f"\n{turn['content']}"
        elif turn["content"] or turn.get("tool_calls"):
            joined.append(turn)
    roles = [turn["role"] for turn in joined]
    has_both = "user" in roles and "assistant" in roles[roles.index("user") :]
    return joined if has_both else []
