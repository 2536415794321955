"""What somebody has open on a real Corral ends within seconds when their right to it does: logs, events, streams."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from instances.logs.session import CHECK_S
from tests.system.stack import PASSWORD, Stack, poll

pytestmark = pytest.mark.any_database

AT_ONCE_S = CHECK_S / 2
"""Long for a few seconds, as the machine may be busy; whoever only looks again now and then is later."""


class Person:
    """Somebody who is signed in in a browser and has a management key; what they open is kept open."""

    def __init__(self, corral: Stack, role: str) -> None:
        self.name = f"eve{secrets.token_hex(4)}"
        account = {"username": self.name, "password": PASSWORD, "role": role}
        made = corral.api.post("/api/v1/users", json=account)
        assert made.status_code == 201, made.text
        self.path = f"/api/v1/users/{made.json()['id']}"
        self.port = corral.port
        self._open = ExitStack()
        origin = f"http://127.0.0.1:{corral.port}"
        self.browser = self._open.enter_context(httpx.Client(base_url=origin, headers={"Referer": origin}, timeout=90))
        token = self.browser.get("/login/").text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = {"login": self.name, "password": PASSWORD, "csrfmiddlewaretoken": token}
        assert self.browser.post("/login/", data=form).status_code == 302
        wanted = {"name": "mine", "kind": "management", "permission_mode": "allow_all"}
        csrf = {"X-CSRFToken": self.browser.cookies["csrftoken"]}
        key = self.browser.post("/api/v1/auth/keys", json=wanted, headers=csrf)
        assert key.status_code == 201, key.text
        cookie = "; ".join(f"{name}={value}" for name, value in self.browser.cookies.items())
        self.proofs = {"key": {"Authorization": f"Bearer {key.json()['key']}"}, "session": {"Cookie": cookie}}

    def open_socket(self, path: str, proof: str) -> ClientConnection:
        """Open a WebSocket as this person."""
        uri = f"ws://127.0.0.1:{self.port}{path}"
        origin = Origin(f"http://127.0.0.1:{self.port}")
        return self._open.enter_context(connect(uri, additional_headers=self.proofs[proof], origin=origin))

    def open_stream(self, path: str, proof: str) -> Iterator[str]:
        """Follow a stream of server-sent events as this person."""
        client = self._open.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=90))
        headers = {**self.proofs[proof], "Accept": "text/event-stream"}
        answer = self._open.enter_context(client.stream("GET", path, headers=headers))
        assert answer.status_code == 200, answer.read()
        return answer.iter_lines()

    def leave(self) -> None:
        """Close what is open."""
        self._open.close()


def read_until(socket: ClientConnection, text: str) -> str:
    """Return all messages up to the one with this text."""
    heard = ""
    while text not in heard:
        heard += f"{socket.recv(timeout=60)!s}\n"
    return heard


def read_close(socket: ClientConnection) -> int | None:
    """Read until the other side closes; its code. TimeoutError when it stays open."""
    deadline = time.monotonic() + AT_ONCE_S
    try:
        while True:
            socket.recv(timeout=max(0.0, deadline - time.monotonic()))
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


def read_to_end(lines: Iterator[str]) -> None:
    """Read until the stream ends."""
    deadline = time.monotonic() + AT_ONCE_S
    for _ in lines:
        assert time.monotonic() < deadline, "the stream goes on"


@pytest.fixture
def become(corral: Stack) -> Iterator[Callable[[str], Person]]:
    """Return a function that makes a person with a role; an instance ``talk`` writes lines all the time."""
    corral.run_now("talk", flags={"lines-per-second": 20})
    people: list[Person] = []

    def make(role: str) -> Person:
        people.append(Person(corral, role))
        return people[-1]

    yield make
    for person in people:
        person.leave()
        corral.api.delete(person.path).raise_for_status()


LOG, EVENTS, STREAM = "/ws/instances/talk/logs", "/ws/events", "/api/v1/instances/talk/logs?follow=true"


def change(corral: Stack, person: Person, **members: Any) -> None:
    corral.api.patch(person.path, json=members).raise_for_status()


@pytest.mark.parametrize("proof", ["key", "session"])
def test_all_that_a_person_has_open_closes_when_they_are_deactivated(
    corral: Stack, become: Callable[[str], Person], proof: str
) -> None:
    eve = become("operator")
    log, events, stream = eve.open_socket(LOG, proof), eve.open_socket(EVENTS, proof), eve.open_stream(STREAM, proof)
    read_until(log, "listening")
    poll(lambda: "listening" in next(stream), what="the stream has begun")

    change(corral, eve, active=False)

    assert (read_close(log), read_close(events)) == (4401, 4401)
    read_to_end(stream)
    assert read_close(eve.open_socket(LOG, proof)) == 4401


@pytest.mark.parametrize("proof", ["key", "session"])
def test_the_logs_of_an_operator_close_when_they_become_a_member(
    corral: Stack, become: Callable[[str], Person], proof: str
) -> None:
    eve = become("operator")
    log, events, stream = eve.open_socket(LOG, proof), eve.open_socket(EVENTS, proof), eve.open_stream(STREAM, proof)
    read_until(log, "listening")
    poll(lambda: "listening" in next(stream), what="the stream has begun")

    change(corral, eve, role="member")

    assert read_close(log) == 4404
    read_to_end(stream)
    # Who still is somebody keeps the socket, is told, and hears nothing of what they can't see any more.
    read_until(events, "access.changed")
    assert corral.act("talk", "stop").status_code == 200
    corral.wait_for("talk", "stopped")
    corral.run_now("shared")
    corral.api.put(f"/api/v1/instances/shared/shares/users/{eve.name}", json={"level": "use"}).raise_for_status()
    assert corral.act("shared", "stop").status_code == 200
    assert "talk" not in read_until(events, "shared")


def test_the_log_of_a_member_closes_when_the_instance_is_shared_no_longer_so_far(
    corral: Stack, become: Callable[[str], Person]
) -> None:
    eve = become("member")
    share = f"/api/v1/instances/talk/shares/users/{eve.name}"
    corral.api.put(share, json={"level": "operate"}).raise_for_status()
    log = eve.open_socket(LOG, "session")
    read_until(log, "listening")

    corral.api.put(share, json={"level": "use"}).raise_for_status()

    assert read_close(log) == 4403
