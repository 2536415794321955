"""A key is read in the same way by all parts of the application: the gateway, Django and the log application."""

from __future__ import annotations

import base64

import pytest

from tests.authorisation.world import Portal

GUARDED = ("/v1/models", "/running", "/api/v1/version", "/logs", "/api/v1/instances/alpha/logs?follow=true")
ALPHA = b'"alpha":{'


def basic(password: bytes) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(b"anybody:" + password)


@pytest.fixture
async def key(portal: Portal) -> bytes:
    await portal.freshen()
    return portal.key_of("management key")


async def test_each_part_takes_a_key_in_each_form(portal: Portal, key: bytes) -> None:
    forms = [
        (b"authorization", b"bearer " + key), (b"x-api-key", key), (b"xi-api-key", key), basic(key),
    ]  # fmt: skip
    for form in forms:
        for path in GUARDED:
            answer = await portal.ask("GET", path, "anonymous", add=[form])
            assert answer.status == 200, (path, form, answer.body)
        health = (await portal.ask("GET", "/health", "anonymous", add=[form])).body.replace(b" ", b"")
        assert ALPHA in health, form
    for path in GUARDED:
        with_query = f"{path}{'&' if '?' in path else '?'}api_key={key.decode()}"
        assert (await portal.ask("GET", with_query, "anonymous")).status == 200, path


async def test_the_password_for_a_proxy_in_front_locks_nobody_out(portal: Portal, key: bytes) -> None:
    """Browsers send it with every request once the proxy has asked for it."""
    password = basic(b"the proxy's")
    for path in GUARDED:
        signed_in = await portal.ask("GET", path, "admin", add=[password])
        assert signed_in.status == 200, (path, signed_in.body)
        with_key = await portal.ask("GET", path, "anonymous", add=[password, (b"x-api-key", key)])
        assert with_key.status == 200, (path, with_key.body)
        alone = await portal.ask("GET", path, "anonymous", add=[password])
        assert (alone.status, b"Invalid API key" in alone.body) == (401, True), path
        beside_a_wrong_key = await portal.ask("GET", path, "admin", add=[password, (b"x-api-key", b"wrong")])
        assert beside_a_wrong_key.status == 401, path
    assert ALPHA in (await portal.ask("GET", "/health", "admin", add=[password])).body.replace(b" ", b"")


async def test_another_sites_page_opens_no_socket_with_the_password_that_a_browser_repeats(
    portal: Portal, key: bytes
) -> None:
    foreign = [(b"origin", b"https://elsewhere.example")]
    own = {"drop": (b"origin",)}
    assert await portal.knock("/ws/events", "anonymous", add=[*foreign, basic(key)], patience_s=30, **own) == "403"
    assert await portal.knock("/ws/events", "anonymous", add=[basic(key)], patience_s=2, **own) == "open"
