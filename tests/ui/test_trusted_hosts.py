"""The page answers to its own name and to its own pages, whatever another site makes a browser send."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gradio_client import Client
from playwright.sync_api import Page, expect

from bench.browser import Server
from sft_app.errors import SettingsError
from sft_app.hosting import Hosting
from sft_app.runtime.environment import ALLOWED_HOSTS_VARIABLE
from sft_app.ui.serving.trusted_hosts import TrustedHosts, canonical_host, trusted_hosts

SPACE = Hosting(space="Alice/my_studio.v2", owner="Alice")
CALL = "/gradio_api/call/list_runs"


def ask(server: Server, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> tuple[int, str]:
    """One request with exactly these headers. `{own}` in a value is the page's host and port."""
    own = urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(own, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value.replace("{own}", own).replace("{port}", own.rpartition(":")[2]))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    told = answer.status, answer.read().decode(errors="replace")
    connection.close()
    return told


@pytest.mark.parametrize(
    "host",
    [
        "x.localhost:{port}",
        "rebound.example:{port}",
        "127.0.0.1.example:{port}",
        "127.0.0.1@example.org",
        "example.org@127.0.0.1:{port}",
        "127.0.0.1:{port}/@example.org",
        "localhost.example.",
        "[::2]:{port}",
        "[::1",
        "192.0.2.7:{port}",
        "2130706433:{port}",
        "0.0.0.0:{port}",
        "",
    ],
)
def test_a_request_for_another_host_goes_no_further(module_server: Server, host: str) -> None:
    status, told = ask(module_server, "GET", "/config", [("Host", host)])
    assert status == 421, told
    assert "components" not in told and told.count("\n") == 1


def test_several_hosts_or_none_are_refused(module_server: Server) -> None:
    for headers in ([("Host", "{own}"), ("Host", "x.localhost")], [("Host", "{own}"), ("Host", "{own}")], []):
        status, told = ask(module_server, "GET", "/config", headers)
        assert status in (400, 421) and "components" not in told


@pytest.mark.parametrize(
    "host", ["{own}", "localhost:{port}", "LOCALHOST.:{port}", "[::1]:{port}", "[0:0:0:0:0:0:0:1]", "127.0.0.1"]
)
def test_the_page_answers_to_the_names_of_this_machine(module_server: Server, host: str) -> None:
    status, told = ask(module_server, "GET", "/config", [("Host", host)])
    assert status == 200 and "components" in told
    assert ask(module_server, "POST", CALL, [*_json(host), ("Origin", f"http://{host}")], b'{"data": []}')[0] == 200


ORIGINS = [
    "http://x.localhost:{port}",
    "https://evil.example",
    "http://localhost:{port}",  # another program may listen there
    "http://127.0.0.1:1",
    "http://127.0.0.1",
    "null",
    "file://",
    "chrome-extension://abcdef",
    "http://{own}@evil.example",
    "http://evil.example@{own}",
    "http://{own}/x",
    "http://{own}.evil.example",
    "http://{own} http://evil.example",
    "",
]
REQUESTS = [
    ("GET", "/", b""),
    ("HEAD", "/", b""),
    ("GET", "/config", b""),
    ("GET", "/gradio_api/queue/data?session_hash=x", b""),
    ("GET", "/gradio_api/heartbeat/x", b""),
    ("GET", "/gradio_api/file=/etc/passwd", b""),
    ("GET", "/static/img/logo.svg", b""),
    ("OPTIONS", CALL, b""),
    ("POST", CALL, b'{"data": []}'),
    ("POST", "/gradio_api/upload", b"no form"),
    ("POST", "/gradio_api/queue/join", b"{}"),
    ("POST", "/login", b""),
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_origin_is_refused(module_server: Server, origin: str) -> None:
    status, told = ask(module_server, "POST", CALL, [*_json("{own}"), ("Origin", origin)], b'{"data": []}')
    assert status == 403 and "Another site sent this request" in told


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_every_kind_of_request_is_looked_at(module_server: Server, method: str, path: str, body: bytes) -> None:
    preflight = [("Access-Control-Request-Method", "POST")] if method == "OPTIONS" else []
    assert ask(module_server, method, path, [("Host", "x.localhost:{port}"), *preflight], body)[0] == 421
    assert (
        ask(module_server, method, path, [("Host", "{own}"), ("Origin", "http://x.localhost"), *preflight], body)[0]
        == 403
    )
    for mode in ("no-cors", "cors", "websocket"):
        metadata = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", mode)]
        assert ask(module_server, method, path, [("Host", "{own}"), *metadata], body)[0] == 403


def test_a_web_socket_is_refused_too(module_server: Server) -> None:
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
    status, _ = ask(module_server, "GET", "/x", [("Host", "{own}"), ("Origin", "http://x.localhost"), *upgrade, *key])
    assert status == 403


def test_a_link_from_another_site_opens_the_page(module_server: Server) -> None:
    link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    assert ask(module_server, "GET", "/", [("Host", "{own}"), *link])[0] == 200


def test_a_forwarded_host_leads_nowhere_else(module_server: Server) -> None:
    for name in ("X-Forwarded-Host", "X-Gradio-Server"):
        status, told = ask(module_server, "GET", "/config", [("Host", "{own}"), (name, "http://evil.example")])
        assert status == 200 and "evil.example" not in told
        assert ask(module_server, "GET", "/config", [("Host", "evil.example"), (name, "{own}")])[0] == 421
        request = [*_json("{own}"), ("Origin", "http://evil.example"), (name, "evil.example")]
        assert ask(module_server, "POST", CALL, request, b'{"data": []}')[0] == 403


def test_answers_say_who_may_frame_them_and_that_their_type_is_meant(module_server: Server) -> None:
    import httpx2

    for path in ("/", "/config", "/theme.css", "/gradio_api/info", "/no/such/thing"):
        headers = httpx2.get(module_server.url + path).headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path


def test_programs_use_the_api_without_an_origin(module_server: Server) -> None:
    assert isinstance(Client(module_server.url, verbose=False).predict(api_name="/list_runs"), list)


def test_what_is_refused_is_logged_once(module_server: Server) -> None:
    for _ in range(3):
        ask(module_server, "GET", "/", [("Host", "noted.example")])
    log = (module_server.home / "app.log").read_text()
    assert log.count("noted.example'") == 1


ATTACK = """
<script>
async function attempt(page) {
  const told = {};
  const json = { method: "POST", credentials: "include", headers: { "Content-Type": "application/json" } };
  const call = async (name, data) => {
    const asked = await fetch(`${page}/gradio_api/call/${name}`, { ...json, body: JSON.stringify({ data }) });
    if (!asked.ok) throw new Error(asked.status);
    const { event_id } = await asked.json();
    return (await fetch(`${page}/gradio_api/call/${name}/${event_id}`)).text();
  };
  const tries = {
    read: async () => (await fetch(`${page}/config`)).text(),
    list: () => call("list_runs", []),
    inspect: () => call("inspect", [DATA, null]),
    start: () => call("start_run", [{ data: DATA }]),
    upload: async () => {
      const form = new FormData();
      form.append("files", new Blob(["{}"]), "planted.jsonl");
      const sent = await fetch(`${page}/gradio_api/upload`, { method: "POST", body: form });
      if (!sent.ok) throw new Error(sent.status);
      return sent.text();
    },
    blind: async () => {  // a form's post needs nobody's leave, and its answer cannot be read
      const body = JSON.stringify({ data: [{ data: DATA }] });
      await fetch(`${page}/gradio_api/call/start_run`, { method: "POST", mode: "no-cors", body });
      throw new Error("sent");
    },
  };
  for (const [name, attempt] of Object.entries(tries)) {
    try { told[name] = "GOT " + (await attempt()).slice(0, 80); } catch (error) { told[name] = String(error); }
  }
  return told;
}
</script>
"""


@pytest.fixture
def attacker(tmp_path: Path) -> Iterator[str]:
    """Another site, as `x.localhost` and as `localhost`, on a port of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    data = tmp_path / "private.jsonl"
    data.write_text(json.dumps({"prompt": "secret", "completion": "4711"}) + "\n")
    (folder / "index.html").write_text(ATTACK.replace("DATA", json.dumps(str(data))))
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield str(site.server_port)
    site.shutdown()
    site.server_close()


def test_another_site_in_the_same_browser_gets_and_starts_nothing(
    server: Any, finished_run: Any, attacker: str, quiet_page: Page
) -> None:
    port = server.url.rpartition(":")[2]
    for name in ("x.localhost", "localhost"):
        quiet_page.goto(f"http://{name}:{attacker}/")
        for target in (server.url, f"http://x.localhost:{port}", f"http://localhost:{port}"):
            told = quiet_page.evaluate("page => attempt(page)", target)
            assert [answer for answer in told.values() if answer.startswith("GOT")] == [], told
    refused = quiet_page.goto(f"http://x.localhost:{port}/")  # the page itself, under a name that anyone can have
    assert refused is not None and refused.status == 421
    assert [run.name for run in (server.home / "runs").iterdir()] == [finished_run.id]
    quiet_page.goto(server.url)
    quiet_page.get_by_role("tab", name="Runs").click()
    expect(quiet_page.get_by_role("gridcell", name=finished_run.id)).to_be_visible()


def test_another_site_cannot_frame_the_page(server: Any, attacker: str, quiet_page: Page) -> None:
    quiet_page.goto(f"http://x.localhost:{attacker}/")
    quiet_page.evaluate(
        "url => new Promise(done => { const frame = document.createElement('iframe'); frame.onload = done;"
        "frame.src = url; document.body.append(frame); })",
        server.url,
    )
    assert [frame.url for frame in quiet_page.frames if server.url in frame.url] == []


def refused(trusted: TrustedHosts, host: str, origin: str | None = None, here: str = "172.17.0.2", **more: str) -> bool:
    headers = {"host": host, **({"origin": origin} if origin is not None else {}), **more}
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return trusted.refusal_of({"headers": pairs, "server": (here, 7860)}) is not None


def test_a_space_answers_to_its_own_host_and_to_its_own_pages() -> None:
    named = trusted_hosts("0.0.0.0", SPACE, {"SPACE_HOST": "alice-my-studio-v2.hf.space,studio.example.org"})
    for host in ("alice-my-studio-v2.hf.space", "studio.example.org"):
        assert not refused(named, host) and not refused(named, host, f"https://{host}")
        assert not refused(named, "172.17.0.2:7860", f"https://{host}"), "a proxy may name the container"
        for other in ("https://mallory-page.hf.space", "https://huggingface.co", "null", f"https://{host}:8443"):
            assert refused(named, host, other)
            assert refused(named, host, other, x_forwarded_host=host)
    assert refused(named, "mallory-page.hf.space") and refused(named, "hf.space")
    assert "https://huggingface.co" in named.frame_ancestors
    unnamed = trusted_hosts("0.0.0.0", SPACE, {})
    assert not refused(unnamed, "alice-my-studio-v2.hf.space", "https://alice-my-studio-v2.hf.space")


def test_a_page_for_others_answers_to_this_machine_and_to_hosts_that_are_named() -> None:
    environment = {ALLOWED_HOSTS_VARIABLE: "Studio.example.org, mybox , https://public.example:8443,bücher.example"}
    trusted = trusted_hosts("0.0.0.0", Hosting(), environment)
    for host in ("192.168.1.5:7860", "localhost:9000", "studio.example.org", "mybox:7860", "xn--bcher-kva.example"):
        assert not refused(trusted, host, f"http://{host}", here="192.168.1.5"), host
    assert not refused(trusted, "127.0.0.1:7860", "https://public.example:8443"), "a proxy on this machine"
    assert not refused(trusted, "[::ffff:192.168.1.5]:7860", here="::ffff:192.168.1.5")
    assert refused(trusted, "127.0.0.1:7860", "https://public.example")
    assert refused(trusted, "mybox:7860", "http://mybox"), "what else the machine serves is another site"
    assert refused(trusted, "192.168.1.6:7860", here="192.168.1.5")
    assert refused(trusted, "other.example.org:7860")


def test_the_host_that_the_page_was_opened_for_is_named() -> None:
    for host in ("studio.example.org", "192.168.1.5", "[fd00::1]"):
        assert not refused(trusted_hosts(host, Hosting(), {}), f"{host}:7860", f"http://{host}:7860")
    assert canonical_host("[FD00:0::1]".lower()) == "fd00::1"


@pytest.mark.parametrize("given", ["*", "*.example.org", "http://", "ftp://x.example", "a b", "user@x.example", "x/y"])
def test_a_host_that_is_none_is_told(given: str) -> None:
    with pytest.raises(SettingsError, match=ALLOWED_HOSTS_VARIABLE):
        trusted_hosts("127.0.0.1", Hosting(), {ALLOWED_HOSTS_VARIABLE: given})


def _json(host: str) -> list[tuple[str, str]]:
    return [("Host", host), ("Content-Type", "application/json")]
