"""Who may do what on a Space: through the API and through events of the page that nobody lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import AccessError, SettingsError
from sft_app.hosting import Hosting, Visitor, detect_hosting, isolate_space_tokens, self_hosting_logins
from sft_app.settings import parse_settings
from sft_app.training.launch import create_queued_run
from tests.ui.hosted import PLANTED, Refused, Space, hub_of_names, signed_in

TOKENS = {"hf_a": "alice", "hf_b": "Bob", "hf_c": "carol"}
DEMO = "Training is off in this demo because it has no GPU of its own"
ONLY_OWNER = "Only the owner of this Space and people they allow can"


@pytest.fixture(scope="module")
def hub() -> Iterator[Any]:
    with hub_of_names(TOKENS) as server:
        yield server


@pytest.fixture(scope="module")
def make_space(
    tmp_path_factory: pytest.TempPathFactory, hub: Any, give_starter: Callable[[Path], None]
) -> Iterator[Callable[..., Space]]:
    spaces: list[Space] = []

    def make(**environment: str) -> Space:
        home = tmp_path_factory.mktemp("space")
        give_starter(home)
        space = Space(home, f"http://127.0.0.1:{hub.server_port}", **environment)
        spaces.append(space)
        return space

    yield make
    for space in spaces:
        space.stop()


@pytest.fixture(scope="module")
def demo(make_space: Callable[..., Space]) -> Space:
    return make_space(SFT_APP_MODE="demo")


@pytest.fixture(scope="module")
def studio(make_space: Callable[..., Space], tiny_model_dir: Path) -> Space:
    """A Space with a GPU of its own, where Bob may train too; a run of each."""
    space = make_space(SFT_APP_MODE="full", SFT_APP_ALLOWED="bob, dave")
    data = space.home / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    data.write_text((json.dumps(row) + "\n") * 12)
    for owner in ("bob", "Alice"):
        settings = parse_settings({"model": str(tiny_model_dir), "data": str(data), "name": f"of {owner}"})
        create_queued_run(settings, space.home, owner).update_status(state="finished")
    return space


def test_modes_are_chosen_by_the_machine_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_app import hosting

    space = {"SPACE_ID": "Alice/studio"}
    monkeypatch.setattr(hosting, "GPU_DEVICES", ())
    assert detect_hosting({}) == Hosting()
    assert (detect_hosting(space).mode, detect_hosting(space).owner) == ("demo", "Alice")
    assert detect_hosting({**space, "SPACES_ZERO_GPU": "true"}).mode == "zerogpu"
    assert detect_hosting({**space, "SFT_APP_MODE": "full"}).mode == "full"
    monkeypatch.setattr(hosting, "GPU_DEVICES", ("/dev/null",))
    assert detect_hosting(space).mode == "full"
    with pytest.raises(SettingsError, match="SFT_APP_MODE must be one of full, demo, zerogpu, got 'huge'"):
        detect_hosting({"SFT_APP_MODE": "huge"})


def test_the_space_s_token_is_taken_away_before_anything_can_use_it() -> None:
    at_home = {"HF_TOKEN": "hf_mine"}
    isolate_space_tokens(at_home)
    assert at_home == {"HF_TOKEN": "hf_mine"}
    space = {"SPACE_ID": "a/b", "HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_y", "SFT_APP_STORAGE": "/data"}
    isolate_space_tokens(space)
    kept = {"SFT_APP_STORAGE_TOKEN": "hf_x", "SFT_APP_STORAGE": "/data", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    assert space == {"SPACE_ID": "a/b", **kept}


def test_a_visitor_is_never_printed_with_their_token() -> None:
    assert "hf_x" not in repr(Visitor("bob", "hf_x"))


def test_logins_for_self_hosting_are_read_and_never_repeated() -> None:
    assert self_hosting_logins({}) is None
    logins = self_hosting_logins({"SFT_APP_AUTH": "me:a:b, you:c"})
    assert logins == [("me", "a:b"), ("you", "c")]
    with pytest.raises(SettingsError, match="must be name:password") as caught:
        self_hosting_logins({"SFT_APP_AUTH": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_names_are_the_same_in_either_case_and_strangers_are_told_what_to_do() -> None:
    hosting = Hosting(space="Alice/x", owner="Alice", allowed=frozenset({"bob"}))
    assert [hosting.trusts(Visitor(name)) for name in ("alice", "BOB", "carol", None)] == [True, True, False, False]
    with pytest.raises(AccessError, match=r"can push\. Sign in first\."):
        hosting.refuse_unless_trusted(Visitor(), "push")
    with pytest.raises(AccessError, match=r"can push\. Duplicate the Space"):
        hosting.refuse_unless_trusted(Visitor("carol"), "push")


@pytest.mark.parametrize("token", [None, "hf_a", "hf_c"])
def test_nobody_trains_in_a_demo_through_the_api(demo: Space, token: str | None) -> None:
    with pytest.raises(Refused, match=DEMO):
        demo.call("start_run", {"preset": "quick"}, token=token)
    assert demo.call("list_runs", token=token) == []


@pytest.mark.parametrize("handler", ["start_run", "resume_watched"])
def test_nobody_trains_in_a_demo_through_events_of_the_page(demo: Space, handler: str) -> None:
    for cookies in (None, signed_in("alice")):
        with pytest.raises(Refused, match=DEMO):
            demo.click(handler, cookies=cookies)


def test_strangers_do_not_train_fetch_or_measure_on_a_full_space(studio: Space) -> None:
    for token, hint in ((None, "Sign in first"), ("hf_c", "Duplicate the Space")):
        with pytest.raises(Refused, match=f"{ONLY_OWNER} train. {hint}"):
            studio.call("start_run", {"preset": "quick"}, token=token)
        with pytest.raises(Refused, match=f"{ONLY_OWNER} fetch datasets. {hint}"):
            studio.call("inspect", "HuggingFaceH4/no_robots", token=token)
        with pytest.raises(Refused, match="There are no runs yet"):
            studio.call("score", "latest", token=token)
    for handler in ("start_run", "resume_watched", "clean", "measure", "fetch"):
        with pytest.raises(Refused, match="Only the owner|Sign in first|is not a dataset"):
            studio.click(handler, cookies=signed_in("carol"))


def test_a_run_is_seen_by_who_started_it_and_by_the_space_s_owner(studio: Space) -> None:
    names = {
        token: [run["name"] for run in studio.call("list_runs", token=token)]
        for token in (None, "hf_a", "hf_b", "hf_c")
    }
    assert names == {None: [], "hf_a": ["of Alice", "of bob"], "hf_b": ["of bob"], "hf_c": []}
    (first, second) = (run["run"] for run in studio.call("list_runs", token="hf_a"))
    for call in (
        lambda run, token: studio.call("run_status", run, token=token),
        lambda run, token: studio.call("stop_run", run, token=token),
        lambda run, token: studio.call("compare", run, ["Hi"], token=token),
        lambda run, token: studio.call("compare", f"{run}/checkpoint-2", ["Hi"], token=token),
        lambda run, token: studio.call("score", run, token=token),
    ):
        with pytest.raises(Refused, match="There is no run|There are no runs"):
            call(first, "hf_b")
        with pytest.raises(Refused, match="There are no runs yet"):
            call(second, "hf_c")
    with pytest.raises(Refused, match="There is no run|There are no runs|not in the list of choices"):
        studio.click("delete_chosen", first, cookies=signed_in("Bob"))
    assert len(studio.call("list_runs", token="hf_a")) == 2


def test_who_trains_may_name_no_folder_of_the_machine(studio: Space, tiny_model_dir: Path) -> None:
    with pytest.raises(Refused, match="cannot be used on a Space. Use a Hub id"):
        studio.call("start_run", {"model": str(tiny_model_dir)}, token="hf_b")
    with pytest.raises(Refused, match="cannot be used on a Space. Upload the file"):
        studio.call("start_run", {"data": str(studio.home / "data.jsonl")}, token="hf_b")
    with pytest.raises(Refused, match="Use the name of an adapter on the Hub"):
        studio.call("compare", str(tiny_model_dir), ["Hi"], token="hf_b")


def test_a_token_that_the_hub_does_not_know_is_refused(studio: Space) -> None:
    with pytest.raises(Refused, match="The Hub does not recognise this token"):
        studio.call("run_status", "latest", token="hf_invented")


def test_the_hub_is_asked_with_the_visitor_s_token_or_with_none(studio: Space, hub: Any) -> None:
    def tokens_after(token: str | None) -> set[str]:
        before = len(hub.seen)
        with pytest.raises(Refused, match="private|not on this machine|does not"):
            studio.call("compare", "alice/secret-adapter", ["Hi"], token=token)
        return {seen for path, seen in hub.seen[before:] if "secret-adapter" in path}

    assert tokens_after(None) == {""}
    assert tokens_after("hf_c") == {"hf_c"}
    assert PLANTED not in {token for _, token in hub.seen}


def test_visitors_ask_within_limits(demo: Space) -> None:
    for arguments, told in (
        (["starter/x", ["x" * 4001]], r"has 4,001 characters, but the limit here is 4,000"),
        (["starter/x", ["x"] * 21], "At most 20 prompts can be answered at once here, got 21"),
        (["starter/x", ["x"], "base", None, 4000], "max_new_tokens can be at most 256 here, got 4000"),
    ):
        with pytest.raises(Refused, match=told):
            demo.call("compare", *arguments)


def test_a_planted_secret_is_nowhere_to_be_found(studio: Space, demo: Space) -> None:
    import httpx2

    for space in (studio, demo):
        pages = [httpx2.get(space.url + path).text for path in ("/", "/config", "/gradio_api/info")]
        files = [path.read_bytes() for path in space.home.rglob("*") if path.is_file()]
        assert files and not any(PLANTED in page for page in pages)
        assert not any(PLANTED.encode() in content for content in files)
        assert PLANTED not in "".join(space.server.lines)


def test_a_comparison_space_shows_its_adapter_and_nothing_else(make_space: Callable[..., Space]) -> None:
    space = make_space(SFT_APP_MODE="demo", SFT_APP_ADAPTER="alice/shop")
    with pytest.raises(Refused, match="This Space compares alice/shop with its base model, and nothing else"):
        space.call("compare", "bob/other", ["Hi"])
