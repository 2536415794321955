from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.headers import NO_BUFFERING, build_handshake_headers, build_request_head, filter_answer_headers
from gateway.structs import Route
from tests.gateway.harness import make_route

pytestmark = pytest.mark.any_database

ROUTE = make_route(state="ready", host="127.0.0.1", port=9001, upstream_key="upstream")


def build_lines(*headers: tuple[bytes, bytes], route: Route = ROUTE, client_host: str | None = None) -> list[str]:
    head = build_request_head("POST", b"/v1/x?a=1", route, list(headers), client_host=client_host)
    assert head.endswith(b"\r\n")
    return head.decode().removesuffix("\r\n").split("\r\n")


def test_a_request_carries_its_own_lines_and_the_clients_harmless_ones() -> None:
    assert build_lines((b"accept", b"*/*"), (b"x-odd", b"1"), (b"x-odd", b"2")) == [
        "POST /v1/x?a=1 HTTP/1.1",
        "host: 127.0.0.1:9001",
        "authorization: Bearer upstream",
        "accept: */*",
        "x-odd: 1",
        "x-odd: 2",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "x-api-key",
        "xi-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie2",
        "x-csrftoken",
        "sec-websocket-protocol",
        "proxy-authorization",
        "cookie",
        "host",
        "expect",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "content-length",
    ],
)
def test_credentials_and_what_is_for_one_hop_stay_behind(name: str) -> None:
    lines = build_lines((name.encode(), b"from-client"))
    assert "from-client" not in "".join(lines)


def test_a_connection_header_takes_the_headers_it_names_along_but_none_of_the_gateways() -> None:
    lines = build_lines(
        (b"connection", b"close, X-Secret, Authorization, Content-Length, Host"),
        (b"x-secret", b"1"),
        (b"x-other", b"2"),
    )
    assert lines[1:] == [
        "host: 127.0.0.1:9001",
        "authorization: Bearer upstream",
        "x-other: 2",
    ]


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, X-GZIP;q=0.8, identity;q=0.5, *;q=0.1", "X-GZIP;q=0.8, identity;q=0.5"),
        ("gzip;q=0", "gzip;q=0"),
        ("br", "identity"),
        ("*", "identity"),
        ("", "identity"),
        ("gzipped,,;q=1", "identity"),
    ],
)
def test_an_engine_is_offered_only_codings_in_which_tokens_can_be_counted(accepted: str, sent: str) -> None:
    assert f"accept-encoding: {sent}" in build_lines((b"accept-encoding", accepted.encode()))


def test_the_clients_address_is_appended_to_those_before_it() -> None:
    lines = build_lines((b"x-forwarded-for", b"10.0.0.1"), client_host="10.0.0.2")
    assert lines[-1] == "x-forwarded-for: 10.0.0.1, 10.0.0.2"


def test_an_ipv6_address_is_bracketed() -> None:
    assert build_lines(route=make_route(host="::1", port=80))[1] == "host: [::1]:80"


@pytest.mark.parametrize("value", [b"a\r\nx-smuggled: 1", b"a\nb", b"a\rb", b"a\r\n\r\nGET / HTTP/1.1"])
def test_a_line_break_in_a_header_is_refused(value: bytes) -> None:
    with pytest.raises(GatewayError, match="line break"):
        build_lines((b"x-evil", value))


def test_an_answer_loses_what_is_for_one_hop_cookies_and_foreign_permissions() -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close, x-internal"),
        (b"x-internal", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"set-cookie", b"sessionid=evil"),
        (b"access-control-allow-origin", b"https://elsewhere.example"),
        (b"content-length", b"3"),
    ]
    kept = [(b"content-type", b"application/json"), (b"content-length", b"3")]
    assert filter_answer_headers(headers, drop_length=False) == kept
    assert filter_answer_headers(headers, drop_length=True) == kept[:1]


def test_an_answer_has_no_second_id_beside_corrals_own() -> None:
    """The library `openai` joins two ids to one that nothing has."""
    headers = [(b"x-request-id", b"engine-7"), (b"request-id", b"engine-7"), (b"x-other-id", b"1")]
    assert filter_answer_headers(headers, drop_length=False) == [(b"x-other-id", b"1")]


def test_a_key_in_the_address_of_the_page_before_stays_behind() -> None:
    referer = b"http://x/upstream/m/?a=1&API_KEY=secret&b=%20"
    assert "referer: http://x/upstream/m/?a=1&b=%20" in build_lines((b"referer", referer))
    assert "referer: http://x/a?b" in build_lines((b"referer", b"http://x/a?b"))
    sent = build_handshake_headers(ROUTE, [(b"referer", referer)], client_host=None)
    assert ("referer", "http://x/upstream/m/?a=1&b=%20") in sent


def test_event_streams_ask_not_to_be_buffered_once() -> None:
    stream = (b"content-type", b"text/event-stream; charset=utf-8")
    assert filter_answer_headers([stream], drop_length=False) == [stream, NO_BUFFERING]
    assert filter_answer_headers([stream, NO_BUFFERING], drop_length=False) == [stream, NO_BUFFERING]
