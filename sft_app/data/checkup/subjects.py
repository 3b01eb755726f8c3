"""Tell what a conversation is about: what looks like a fault in a text may be what was asked for."""

from __future__ import annotations

import re

from sft_app.data.conversation import Conversation

_WORDS = {
    "encoding": r"mojibake|utf-?8|latin-?1|iso-?8859|windows-?125\d|cp125\d|unicode|(?:de|en)coding|zero-width",
    "html": r"x?html5?|xml|jsx|svg|react|vue|markup|css",
    "marker": r"chat ?ml|(?:chat|prompt|instruction) (?:format|template)s?|special tokens?|end[- ]of[- ](?:turn|text)",
}
_SUBJECTS = {
    subject: re.compile(rf"(?<![<\w/.\"'-])(?:{words})(?!\w)", re.IGNORECASE) for subject, words in _WORDS.items()
}
_OF_KIND = {"control": "encoding", "replacement": "encoding", "inner_marker": "marker"}
_OF_FIX = {"repair_encoding": "encoding", "strip_html": "html", "remove_markers": "marker"}


def is_about(kind_or_fix: str, conversation: Conversation) -> bool:
    """Return whether a conversation is about what this kind of finding, or this fix, takes for a fault."""
    subject = _OF_FIX.get(kind_or_fix) or _OF_KIND.get(kind_or_fix, kind_or_fix)
    pattern = _SUBJECTS.get(subject)
    return pattern is not None and any(pattern.search(message.content) for message in conversation.messages)
