"""Whom the application believes, which names it answers to, and how much it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.browsers import SANDBOX, restrict_engine
from gateway.structs import ANONYMOUS, Principal
from portal.edge import BODY_LIMIT, BodyTooLarge, Edge, bound_body, refuse, restrict_answer

pytestmark = pytest.mark.any_database
PROXY, CLIENT = "10.0.0.3", "203.0.113.9"


def make_scope(client: str = PROXY, kind: str = "http", **headers: str) -> dict[str, Any]:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "path": "/",
        "client": (client, 1234),
        "headers": [(b"host", b"corral.example"), *fields],
    }


def make_edge(*proxies: str, is_https: bool = False, hosts: tuple[str, ...] = ("*",)) -> Edge:
    return Edge(trusted_proxies=proxies, is_https=is_https, allowed_hosts=hosts)


def test_nothing_is_done_where_nothing_is_configured() -> None:
    assert make_edge().is_open
    assert not make_edge("10.0.0.0/8").is_open
    assert not make_edge(is_https=True).is_open
    assert not make_edge(hosts=("corral.example",)).is_open


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
def test_a_trusted_proxy_is_believed(kind: str, scheme: str) -> None:
    scope = make_scope(
        kind=kind, x_forwarded_for=CLIENT, x_forwarded_proto="https", x_forwarded_host="models.example", accept="*/*"
    )
    assert make_edge("10.0.0.0/8").admit(scope) is None
    assert (scope["client"][0], scope["scheme"]) == (CLIENT, scheme)
    assert scope["headers"] == [(b"host", b"models.example"), (b"accept", b"*/*")]


def test_nobody_else_is_believed_and_what_they_say_goes_no_further() -> None:
    scope = make_scope(
        client=CLIENT, x_forwarded_for="127.0.0.1", x_forwarded_proto="https", x_forwarded_host="evil.example",
        forwarded="for=127.0.0.1",
    )  # fmt: skip
    make_edge("10.0.0.0/8").admit(scope)
    assert (scope["client"][0], scope["scheme"]) == (CLIENT, "http")
    assert scope["headers"] == [(b"host", b"corral.example")]


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),  # what stands before, the client may have written
        ("203.0.113.9, 10.0.0.7", "203.0.113.9"),  # two proxies of ours
        ("10.9.9.9, 10.0.0.7", "10.9.9.9"),
        ("203.0.113.9:5123", "203.0.113.9"),
        ('"[2001:db8::1]:5123"', "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", PROXY),
        ("203.0.113.9, unknown", PROXY),
        ("", PROXY),
        ("203.0.113.9\r\nx: y", PROXY),
    ],
)
def test_the_client_is_the_last_address_that_no_proxy_of_ours_has(said: str, client: str) -> None:
    scope = make_scope(x_forwarded_for=said)
    make_edge("10.0.0.0/8").admit(scope)
    assert scope["client"][0] == client


def test_several_headers_are_read_as_one() -> None:
    scope = make_scope()
    scope["headers"] += [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-for", CLIENT.encode())]
    make_edge("10.0.0.0/8").admit(scope)
    assert scope["client"][0] == CLIENT


@pytest.mark.parametrize("client", ["10.0.0.3", "::ffff:10.0.0.3"])
def test_a_proxy_is_known_in_either_form_of_its_address(client: str) -> None:
    scope = make_scope(client=client, x_forwarded_for=CLIENT)
    make_edge("10.0.0.0/8", "fd00::/8").admit(scope)
    assert scope["client"][0] == CLIENT


@pytest.mark.parametrize("said", ["gopher", "https, http", ""])
def test_an_odd_scheme_changes_nothing(said: str) -> None:
    scope = make_scope(x_forwarded_proto=said)
    make_edge("10.0.0.0/8").admit(scope)
    assert scope["scheme"] == "http"


def test_with_https_everybody_comes_over_tls_whatever_they_say() -> None:
    scope = make_scope(client=CLIENT, x_forwarded_proto="http")
    make_edge(is_https=True).admit(scope)
    assert scope["scheme"] == "https"


@pytest.mark.parametrize("host", ["corral.example", "corral.example:8080", "CORRAL.example", "127.0.0.1:8080"])
def test_the_names_of_the_settings_are_answered(host: str) -> None:
    scope = make_scope()
    scope["headers"][0] = (b"host", host.encode())
    assert make_edge(hosts=("corral.example", "127.0.0.1")).admit(scope) is None


@pytest.mark.parametrize("host", ["evil.example", "corral.example.evil.example", "", "corral.example@evil", "[", "a b"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_any_other_name_is_refused_also_by_the_gateway_and_sockets(host: str, kind: str) -> None:
    """By a name of the attacker's that leads here (DNS rebinding) a page would be of the same origin."""
    scope = make_scope(kind=kind)
    scope["headers"][0] = (b"host", host.encode())
    refusal = make_edge(hosts=("corral.example",)).admit(scope)
    assert refusal is not None
    sent = await collect(lambda receive, send: refuse({**scope, "path": "/api/x"}, receive, send, refusal))
    if kind == "websocket":
        assert sent[0] == {"type": "websocket.close", "code": 4400, "reason": str(refusal)[:120]}
    else:
        assert sent[0]["status"] == 400
        assert json.loads(sent[1]["body"])["error"] == "invalid_host"


async def collect(serve: Any, *messages: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    waiting = [*messages, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await serve(receive, send)
    return sent


async def test_a_body_is_bounded_whether_its_length_is_announced_or_not() -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError

    with pytest.raises(BodyTooLarge):
        bound_body(make_scope(content_length=str(BODY_LIMIT + 1)), never)

    pieces = [{"type": "http.request", "body": bytes(2**20), "more_body": True}] * (BODY_LIMIT // 2**20 + 1)

    async def receive() -> dict[str, Any]:
        return pieces.pop()

    bounded = bound_body(make_scope(), receive)
    for _ in range(BODY_LIMIT // 2**20):
        await bounded()
    with pytest.raises(BodyTooLarge):
        await bounded()


async def test_an_answer_keeps_its_own_policies() -> None:
    own = [(b"Content-Security-Policy", b"default-src 'self'"), (b"content-type", b"text/html")]

    async def serve(receive: Any, send: Any) -> None:
        await restrict_answer(send)({"type": "http.response.start", "status": 200, "headers": own})

    (start,) = await collect(serve)
    names = [name.lower() for name, _ in start["headers"]]
    assert names.count(b"content-security-policy") == 1
    assert {b"x-frame-options", b"referrer-policy", b"permissions-policy", b"x-content-type-options"} <= set(names)


def page(raw_path: bytes, agent: str = "Mozilla/5.0", host: bytes = b"corral.example") -> dict[str, Any]:
    scope = make_scope(user_agent=agent)
    return {**scope, "raw_path": raw_path, "headers": [(b"host", host), *scope["headers"][1:]]}


KEY = Principal(kind="inference", key_id=1)


def test_an_engine_s_page_reaches_nothing_of_the_portal() -> None:
    session = Principal(kind="session", user_id=1)
    assert restrict_engine(page(b"/upstream/m/", agent="curl"), session) == SANDBOX
    assert restrict_engine(page(b"/upstream/m/"), KEY) == SANDBOX
    assert restrict_engine(page(b"/v1/models", agent="OpenAI/Python"), KEY) == []  # programs show nothing
    policy = dict(restrict_engine(page(b"/llama-cpp/m/"), ANONYMOUS))[b"content-security-policy"]
    assert policy.startswith(b"default-src http://corral.example/llama-cpp/m/ 'unsafe-inline'")
    assert b"'self'" not in policy


@pytest.mark.parametrize("host", [b"", b"a; script-src *", b"a b", b"a\r\nx: y", b"a'"])
def test_no_host_writes_into_the_policy(host: bytes) -> None:
    assert restrict_engine(page(b"/llama-cpp/m/", host=host), ANONYMOUS) == SANDBOX
    assert restrict_engine(page(b"/llama-cpp/m;x/"), ANONYMOUS) == SANDBOX
    assert restrict_engine(page(b"/v1/"), ANONYMOUS) == SANDBOX
