"""CORRAL_TRUSTED_PROXIES on a real Corral: whose word about the client's address counts, and in which parts."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from gateway.brake import DELAY_S, FREE_FAILURES
from tests.system.conftest import start_stack
from tests.system.stack import Stack, poll

pytestmark = pytest.mark.any_database

PROXY, STRANGER = "127.0.0.1", "127.0.0.2"
"""Where the tests connect from; the first is trusted."""
ANNA, EVE = "203.0.113.7", "198.51.100.9"


@pytest.fixture(scope="module")
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A Corral that believes the proxy and goes by one name, with an instance."""
    folder = tmp_path_factory.mktemp("proxied")
    stack = start_stack(folder, request, trusted_proxies=PROXY, allowed_hosts="127.0.0.1")
    stack.run_now("m")
    return stack


def connect(corral: Stack, source: str) -> httpx.Client:
    """A client that comes from this address."""
    transport = httpx.HTTPTransport(local_address=source)
    return httpx.Client(transport=transport, base_url=corral.api.base_url, headers=corral.api.headers, timeout=90)


@pytest.fixture
def proxy(proxied: Stack) -> Iterator[httpx.Client]:
    """A client at the trusted address."""
    with connect(proxied, PROXY) as client:
        yield client


@pytest.fixture
def stranger(proxied: Stack) -> Iterator[httpx.Client]:
    """A client at another address."""
    with connect(proxied, STRANGER) as client:
        yield client


def change(client: httpx.Client, note: str, said: str) -> str:
    """Make a key and return the address that the audit has of it."""
    forwarded = {"X-Forwarded-For": said}
    made = client.post("/api/v1/auth/keys", json={"name": note, "permission_mode": "allow_all"}, headers=forwarded)
    assert made.status_code == 201, made.text
    entries = client.get("/api/v1/audit", params={"target": note}).json()
    return str(entries[0]["client_address"])


def test_the_audit_has_the_address_that_the_trusted_proxy_tells(proxy: httpx.Client, stranger: httpx.Client) -> None:
    assert change(proxy, "by-proxy", ANNA) == ANNA
    assert (
        change(proxy, "by-two-proxies", f"{EVE}, {ANNA}, {PROXY}") == ANNA
    )  # what stands before, Anna may have written
    assert change(stranger, "by-stranger", ANNA) == STRANGER


def test_the_activity_has_it_whichever_way_a_request_goes(
    proxied: Stack, proxy: httpx.Client, stranger: httpx.Client
) -> None:
    """Of two chats in a row the second finds an idle connection and goes the short way."""
    expected = {}
    for client, address in ((proxy, ANNA), (stranger, STRANGER)):
        for _ in range(3):
            answer = client.post("/v1/chat/completions", json={"model": "m"}, headers={"X-Forwarded-For": ANNA})
            assert answer.status_code == 200, answer.text
            expected[answer.headers["x-request-id"]] = address

    def read() -> dict[str, str]:
        rows = proxied.api.get("/api/v1/activity", params={"request_id": ",".join(expected)}).json()
        return {row["request_id"]: row["client_address"] for row in rows}

    assert poll(lambda: len(found := read()) == len(expected) and found, what="all are recorded") == expected


def test_a_foreign_host_name_is_refused_whichever_way_a_request_goes(proxy: httpx.Client) -> None:
    def ask(**headers: str) -> int:
        return proxy.post("/v1/chat/completions", json={"model": "m"}, headers=headers).status_code

    assert [ask() for _ in range(2)] == [200, 200]
    assert [ask(Host="evil.example") for _ in range(2)] == [400, 400]
    assert ask(**{"X-Forwarded-Host": "evil.example"}) == 400


def test_what_a_browser_is_answered_has_its_policies_whichever_way_a_request_goes(proxy: httpx.Client) -> None:
    browser = {"User-Agent": "Mozilla/5.0"}
    for _ in range(3):
        answer = proxy.post("/v1/chat/completions", json={"model": "m"}, headers=browser)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("sandbox ")
        assert answer.headers["x-frame-options"] == "DENY"


def test_an_engine_hears_from_no_stranger_for_whom_the_request_is(proxy: httpx.Client, stranger: httpx.Client) -> None:
    def echo(client: httpx.Client) -> dict[str, str]:
        headers = {"X-Forwarded-For": ANNA, "X-Forwarded-Host": "127.0.0.1", "Forwarded": f"for={ANNA}"}
        answer = client.post("/upstream/m/echo", json={"model": "m"}, headers=headers)
        return {name.lower(): value for name, value in answer.json()["headers"]}

    assert echo(proxy)["x-forwarded-for"] == ANNA
    heard = echo(stranger)
    assert heard["x-forwarded-for"] == STRANGER
    assert not {"x-forwarded-host", "forwarded"} & heard.keys()


def send_wrong_key(client: httpx.Client, said: str) -> float:
    """Try a key, and return how many seconds the answer took."""
    answer = client.get("/v1/models", headers={"Authorization": "Bearer wrong", "X-Forwarded-For": said})
    assert answer.status_code == 401
    return answer.elapsed.total_seconds()


def test_wrong_keys_are_counted_by_the_clients_address(proxy: httpx.Client, stranger: httpx.Client) -> None:
    for _ in range(FREE_FAILURES):
        send_wrong_key(proxy, ANNA)
    assert send_wrong_key(proxy, ANNA) >= DELAY_S * 0.9
    others = [send_wrong_key(proxy, f"198.51.100.{number}") for number in range(20, 25)]
    assert min(others) < DELAY_S * 0.9, "who comes by the same proxy waits for what Anna sent"
    # A stranger is who they are, whatever names they give.
    for number in range(FREE_FAILURES):
        send_wrong_key(stranger, f"203.0.113.{number + 100}")
    assert send_wrong_key(stranger, "203.0.113.99") >= DELAY_S * 0.9
