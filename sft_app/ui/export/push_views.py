"""What the page says about pushing, as Markdown."""

from __future__ import annotations

from sft_app.export.hub import Pushed
from sft_app.hosting import Hosting, Visitor

NOT_LOGGED_IN = (
    "**No one is logged in to the Hub on this machine.** Run `hf auth login` in a terminal, or start the app with "
    "`HF_TOKEN` set to a token with write access, from huggingface.co/settings/tokens. Then come back here."
)
LOGGED_IN = "Pushes with this machine's Hub login."


def login_line(hosting: Hosting, visitor: Visitor, is_logged_in: bool) -> str:
    """In whose name something is pushed, or what to do so that it can be."""
    if not hosting.is_hosted:
        return LOGGED_IN if is_logged_in else NOT_LOGGED_IN
    if visitor.name is None:
        return "**Sign in** with your Hugging Face account to push."
    if not hosting.trusts(visitor):
        return "Only the owner of this Space and people they allow can push. **Duplicate the Space** to get your own."
    return f"Pushes as **{visitor.name}**."


def pushed_line(pushed: Pushed) -> str:
    """Where it is now. The names in it have been checked: they have no Markdown in them."""
    who = "only you and people you give access can see it" if pushed.private else "everyone can see it"
    return "\n\n".join([f"Done: [{pushed.repo}]({pushed.url}), {pushed.files} files; {who}.", *pushed.notes])
