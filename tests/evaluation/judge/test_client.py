"""The judge's server: what is sent, where the key may go, and one clear sentence for everything that goes wrong."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from sft_app.errors import JudgeError, SettingsError
from sft_app.evaluation.judge.addresses import uses_environment
from sft_app.evaluation.judge.client import Judge, UnansweredError, _longer_pause, make_judge
from tests.judge_stand_in import Played

KEY = "sk-secret-1234567890"
ODD = ("0.0.0.0", "[::]", "[::ffff:8.8.8.8]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]")
ASKED = [{"role": "user", "content": "Which?"}]


def judge_at(played: Played, key: str = "") -> Judge:
    return replace(make_judge(played.address, "small", {"SFT_APP_JUDGE_KEY": key}), pauses=(0.0, 0.0))


def refused(played: Played, *refusals: tuple[int, dict[str, str], bytes], key: str = "") -> str:
    played.refusals = list(refusals)
    with pytest.raises(JudgeError) as caught:
        judge_at(played, key).ask(ASKED)
    return str(caught.value)


def test_the_request_has_the_documented_form_and_asks_for_the_likeliest_reply(played: Played) -> None:
    assert json.loads(judge_at(played).ask(ASKED))["better"] == "A"
    assert played.requests == [{"model": "small", "messages": ASKED, "temperature": 0, "stream": False}]
    assert "Authorization" not in played.headers[0] and "authorization" not in played.headers[0]


def test_the_key_is_sent_and_shown_nowhere(played: Played, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    judge = judge_at(played, f" {KEY}\n")
    judge.ask(ASKED)
    sent = {name.lower(): value for name, value in played.headers[0].items()}
    assert sent["authorization"] == f"Bearer {KEY}"
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}. Look it up."}}).encode()
    said = [refused(played, (status, {}, body), key=KEY) for status in (400, 401, 403, 404, 422)]
    for text in (*said, repr(judge), caplog.text):
        assert KEY not in text and "secret" not in text


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((401, {}, b""), r"refused access \(401\). No key is set in SFT_APP_JUDGE_KEY"),
        ((403, {}, b"[]"), r"refused access \(403\)"),
        ((404, {}, b'{"error": {"message": "model small not found."}}'), "has no model “small”, or the address"),
        ((302, {"Location": "http://elsewhere.example/"}, b""), "redirects to another address"),
        (
            (400, {}, b'{"error": "too long."}'),
            r"cannot answer this request \(400: too long\)",
        ),
        ((422, {}, b'[{"detail": "no such field"}]'), r"\(422: no such field\)"),
        ((413, {}, b'{"message": "too large"}'), r"\(413: too large\)"),
        ((400, {}, b"{" * 9000), r"cannot answer this request \(400\)"),
    ],
)
def test_each_refusal_says_what_to_do(played: Played, refusal: tuple[int, dict[str, str], bytes], told: str) -> None:
    with pytest.raises(JudgeError, match=told):
        played.refusals = [refusal]
        judge_at(played).ask(ASKED)
    assert len(played.requests) == 1


def test_a_wrong_key_is_told_apart_from_none(played: Played) -> None:
    assert "The key in SFT_APP_JUDGE_KEY is not valid for this model" in refused(played, (401, {}, b""), key=KEY)


def test_a_busy_server_is_asked_again_and_then_given_up(played: Played) -> None:
    played.refusals = [(429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "soon"}, b"")]
    assert "better" in judge_at(played).ask(ASKED)
    assert len(played.requests) == 3
    assert "too busy or has a problem (500), 3 tries in a row" in refused(played, *[(500, {}, b"")] * 3)


def test_a_server_that_does_not_reply_in_time(played: Played) -> None:
    played.seconds = 1.0
    with pytest.raises(UnansweredError, match=r"did not reply within 0.1 s.*choose a smaller model"):
        replace(judge_at(played), reply_seconds=0.1).ask(ASKED)


def test_a_reply_that_trickles_in_ends_at_the_limit_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    time.sleep(0.05)
                    connection.sendall(b" ")

        threading.Thread(target=trickle, daemon=True).start()
        judge = make_judge(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "small", {})
        with pytest.raises(UnansweredError, match=r"did not reply within 0.2 s"):
            replace(judge, reply_seconds=0.2).ask(ASKED)


def test_a_lost_connection_is_tried_again(played: Played) -> None:
    played.refusals = [(0, {}, b"")] * 2
    assert "better" in judge_at(played).ask(ASKED)
    assert "broke off (RemoteProtocolError), 3 tries in a row" in refused(played, *[(0, {}, b"")] * 3)


@pytest.mark.parametrize(
    ("asked", "pause"), [("", 2), ("soon", 2), ("1.5", 2), ("2.5", 2.5), ("1e9", 30), ("nan", 2), ("-1", 2)]
)
def test_a_server_may_ask_for_a_longer_pause_within_limits(asked: str, pause: float) -> None:
    assert _longer_pause(2, asked) == pause


def test_a_model_that_refuses_a_temperature_is_asked_without(played: Played) -> None:
    judge = judge_at(played)
    played.refusals = [(400, {}, b'{"error": {"message": "Unsupported value: \'temperature\'"}}')]
    for _ in range(2):
        assert "better" in judge.ask(ASKED)
    assert ["temperature" in request for request in played.requests] == [True, False, False]
    assert "(400: temperature must be 1)" in refused(played, *[(400, {}, b'{"error": "temperature must be 1"}')] * 2)


def test_an_address_without_https_and_a_proxy_that_cannot_be_used(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JudgeError, match="No secure connection to https://127.0.0.1.*certificate"):
        make_judge(played.address.replace("http:", "https:"), "small", {}).ask(ASKED)
    with pytest.raises(JudgeError, match="cannot be used, or the proxy"):
        make_judge("https://a\u200b.example/v1", "small", {}).ask(ASKED)
    for proxy in ("socks5://me:word@localhost:1", "odd://me:word@localhost:1"):
        monkeypatch.setenv("ALL_PROXY", proxy)
        with pytest.raises(JudgeError, match="the proxy that HTTPS_PROXY or ALL_PROXY names") as caught:
            make_judge("https://judge.example/v1", "small", {}).ask(ASKED)
        assert "word" not in str(caught.value)
        assert "better" in judge_at(played).ask(ASKED)


def test_only_https_to_another_machine_uses_a_proxy() -> None:
    assert uses_environment("https://judge.example/v1")
    for address in ("http://192.168.1.20/v1", "https://localhost/v1", "https://[::1]:8000"):
        assert not uses_environment(address)


def test_an_address_where_no_server_is() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(JudgeError, match=f"No server answers at {address}. Check the address"):
        make_judge(address, "small", {}).ask(ASKED)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"[1]"])
def test_something_else_than_chat_completions(played: Played, body: bytes) -> None:
    played.body = body
    with pytest.raises(JudgeError, match="format of chat completions"):
        judge_at(played).ask(ASKED)


def test_a_reply_without_text_is_empty(played: Played) -> None:
    played.body = b'{"choices": [{"message": {"content": null}}]}'
    assert judge_at(played).ask(ASKED) == ""


def test_a_reply_that_was_cut_off_does_not_count(played: Played) -> None:
    played.body = b'{"choices": [{"message": {"content": "A"}, "finish_reason": "length"}]}'
    assert judge_at(played).ask(ASKED) == ""


def test_a_reply_in_parts(played: Played) -> None:
    parts = [{"type": "thinking", "text": "B"}, {"type": "text", "text": "A"}, {"type": "text", "text": "!"}, 1]
    played.body = json.dumps({"choices": [{"message": {"content": parts}}]}).encode()
    assert judge_at(played).ask(ASKED) == "A!"


def test_an_error_with_status_200_shows_its_reason(played: Played) -> None:
    played.body = b'{"error": {"message": "context too long"}}'
    with pytest.raises(UnansweredError, match=r"\(200: context too long\)"):
        judge_at(played).ask(ASKED)


@pytest.mark.parametrize(
    "address",
    ["", "localhost:11434", "ftp://localhost", "file:///etc/passwd", "http://", "http://localhost:x", "https://a b"],
)
def test_an_address_must_be_one(address: str) -> None:
    with pytest.raises(SettingsError, match="must begin with https:// or http://"):
        make_judge(address, "small", {})


@pytest.mark.parametrize("address", [f"https://{KEY}@host/v1", f"https://a:{KEY}@host", f"https://host/v1?key={KEY}"])
def test_a_key_in_the_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError, match="Put the key in SFT_APP_JUDGE_KEY") as caught:
        make_judge(address, "small", {})
    assert KEY not in str(caught.value)


def test_plain_http_stays_on_this_machine_or_without_a_key_in_its_network() -> None:
    key = {"SFT_APP_JUDGE_KEY": KEY}
    for host in ("localhost:11434", "127.0.0.1", "[::1]:8000"):
        assert make_judge(f"http://{host}/v1/", "small", key).address == f"http://{host}/v1"
    assert make_judge("http://192.168.1.20:11434/v1/chat/completions", "m", {}).address.endswith("11434/v1")
    assert make_judge("http://[::ffff:10.0.0.2]/v1", "m", {}).model == "m"
    with pytest.raises(SettingsError, match="your data and key unencrypted. Use https"):
        make_judge("http://192.168.1.20/v1", "small", key)
    for host in ("judge.example", "8.8.8.8", "169.254.169.254", "localhost.judge.example", *ODD):
        with pytest.raises(SettingsError, match="your data unencrypted. Use https"):
            make_judge(f"http://{host}/v1", "small", {})
    assert make_judge("https://judge.example/v1", "small", key).key == KEY


def test_a_model_without_a_name_and_a_key_with_other_characters() -> None:
    with pytest.raises(SettingsError, match="Enter the name of the model"):
        make_judge("http://localhost", " ", {})
    for key in ("schlüssel", "two\nlines"):
        with pytest.raises(SettingsError, match="characters that no key has") as caught:
            make_judge("http://localhost", "small", {"SFT_APP_JUDGE_KEY": key})
        assert key not in str(caught.value)
