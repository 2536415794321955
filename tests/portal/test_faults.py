"""Requests that can't be read get a clear answer, never a fault of ours."""

from __future__ import annotations

import socket

import httpx
import pytest
from django.test import Client

from accounts.models import User
from tests.portal.corral import Corral


@pytest.mark.parametrize("path", ["/login/", "/instances/new/"])
def test_a_form_in_an_impossible_encoding_is_a_bad_request(admin: User, path: str) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(admin)
    token = client.get("/instances/new/").cookies["csrftoken"].value
    answer = client.post(
        path,
        data=b"a=+AAA",
        content_type="application/x-www-form-urlencoded; charset=utf-7",
        headers={"X-CSRFToken": token, "Cookie": f"csrftoken={token}; sessionid={client.cookies['sessionid'].value}"},
    )
    assert answer.status_code == 400
    assert "<h1" in answer.content.decode()


@pytest.mark.parametrize("path", ["/ws/nope", "/v1/ws", "/api/v1/instances/x/proxy/ws"])
def test_a_websocket_at_an_unknown_address_is_refused_and_not_a_fault(running: Corral, path: str) -> None:
    before = running.said().count("Traceback")
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        status = client.recv(64).split()[1]
    assert status in (b"401", b"403", b"404")
    assert httpx.get(f"http://127.0.0.1:{running.port}/wol-health").status_code == 200
    assert running.said().count("Traceback") == before
