"""Pages of allowed origins read llama-swap's routes outside the gateway as they read the gateway's, with a key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.authorisation.world import Portal

ROUTES = (
    "/health",
    "/health/",
    "/wol-health",
    "/logs",
    "/logs/stream",
    "/logs/stream/alpha",
    "/api/v1/instances/alpha/logs?follow=true",
)
CHAT, ELSEWHERE = b"https://chat.example", b"https://elsewhere.example"
PREFLIGHT = [(b"access-control-request-method", b"GET"), (b"access-control-request-headers", b"authorization")]
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def one_origin(change_settings: Callable[..., None]) -> None:
    change_settings(allowed_origins=[CHAT.decode()])


@pytest.fixture
def no_keys(change_settings: Callable[..., None]) -> None:
    change_settings(allowed_origins=["*", CHAT.decode()], require_management_auth=False)


async def read_allowed(portal: Portal, path: str, origin: bytes, caller: str = "management key") -> str | None:
    answer = await portal.ask("GET", path, caller, drop=(b"origin",), add=[(b"origin", origin)])
    assert "access-control-allow-credentials" not in answer.headers
    return answer.headers.get(ALLOWED)


async def test_pages_of_allowed_origins_read_answers_and_others_do_not(one_origin: None, portal: Portal) -> None:
    for path in ROUTES:
        for caller in ("management key", "anonymous", "admin"):
            assert await read_allowed(portal, path, CHAT, caller) == CHAT.decode(), (path, caller)
        assert await read_allowed(portal, path, ELSEWHERE) is None, path


async def test_a_preflight_is_answered_without_a_key(one_origin: None, portal: Portal) -> None:
    for path in ROUTES:
        asked = {"drop": (b"origin",), "add": [(b"origin", CHAT), *PREFLIGHT]}
        answer = await portal.ask("OPTIONS", path, "anonymous", **asked)
        assert (answer.status, answer.headers.get(ALLOWED)) == (200, CHAT.decode()), path
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        assert "GET" in answer.headers["access-control-allow-methods"]


async def test_where_no_key_is_demanded_only_named_origins_read_answers(no_keys: None, portal: Portal) -> None:
    for path in ROUTES:
        assert await read_allowed(portal, path, CHAT, "anonymous") == CHAT.decode(), path
        assert await read_allowed(portal, path, ELSEWHERE, "anonymous") is None, path


async def test_pages_of_the_portal_are_read_by_nobody_else(portal: Portal) -> None:
    for path in ("/", "/instances/", "/login/", "/readyz", "/admin/"):
        assert await read_allowed(portal, path, CHAT, "admin") is None, path
