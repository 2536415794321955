"""The WebSockets of logs and events over a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from django.utils import timezone
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key, revoke_key
from accounts.enums import KeyKind
from accounts.events import publish
from accounts.models import ApiKey, User
from instances import consumers
from instances.logs import session
from instances.logs.database import run_query
from instances.models import Instance
from tests.instances.logs.conftest import StartPump, StartRun
from tests.instances.logs.web import WebServer, count_followed_runs, stops_reading

LOGS = "/ws/instances/llama/logs"


@pytest.fixture
def key(management_key: tuple[ApiKey, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {management_key[1]}"}


@asynccontextmanager
async def opened(web: WebServer, path: str, headers: dict[str, str]) -> AsyncIterator[ClientConnection]:
    async with connect(web.socket_url(path), additional_headers=headers, compression=None, max_size=None) as socket:
        yield socket


async def receive_until(socket: ClientConnection, last_line: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while True:
            messages.append(json.loads(await socket.recv()))
            if any(line[2] == last_line for line in messages[-1].get("lines", [])):
                return messages


async def wait_for_close(socket: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                await socket.recv()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [line[2] for message in messages for line in message.get("lines", [])]


def numbered(first: int, count: int) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


async def test_a_viewer_gets_old_lines_then_new_ones(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 500)
    async with opened(web, f"{LOGS}?lines=10", key) as viewer:
        messages = await receive_until(viewer, "line 499")
        assert (messages[0]["type"], messages[0]["run_id"]) == ("run", run.pk)
        assert texts(messages) == numbered(490, 10)
        log.write("broken\n", "stderr")
        message = json.loads(await viewer.recv())
        assert message["type"] == "log"
        assert message["lines"][0][0::2] == ["stderr", "broken"]
        assert message["lines"][0][3] is False


async def test_a_viewer_who_comes_back_with_a_cursor_misses_nothing(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 500)
    async with opened(web, f"{LOGS}?lines=1000", key) as viewer:
        messages = await receive_until(viewer, "line 499")
    log.write_lines(500, 500)
    async with opened(web, f"{LOGS}?cursor={messages[-1]['cursor']}", key) as viewer:
        messages += await receive_until(viewer, "line 999")
    assert texts(messages) == numbered(0, 1000)


async def test_the_other_stream_is_left_away(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write("out\n")
    log.write("err\n", "stderr")
    log.write("out\n")
    async with opened(web, f"{LOGS}?stream=stderr", key) as viewer:
        assert texts(await receive_until(viewer, "err")) == ["err"]


async def test_pieces_of_a_huge_line_are_marked_as_going_on(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    async with opened(web, LOGS, key) as viewer:
        log.write("ä" * 1_000_000 + "\nafter\n")
        messages = await receive_until(viewer, "after")
    pieces = [line for message in messages for line in message.get("lines", [])]
    assert "".join(line[2] for line in pieces[:-1]) == "ä" * 1_000_000
    assert {line[3] for line in pieces[:-2]} == {True}
    assert pieces[-2][3] is False


async def test_a_viewer_that_stops_reading_does_not_slow_the_others(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    # A client that reads nothing: a bare socket with a small buffer, so that the server's own soon fills up.
    stalled = socket.create_connection(("127.0.0.1", web.port))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lines = [f"GET {LOGS} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
    stalled.sendall("\r\n".join([*lines, f"Authorization: {key['Authorization']}", "", ""]).encode())
    assert (await asyncio.to_thread(stalled.recv, 12)) == b"HTTP/1.1 101"
    async with opened(web, LOGS, key) as viewer:
        await viewer.recv()
        receiving = asyncio.create_task(receive_until(viewer, "line 199999"))
        for first in range(0, 200_000, 5000):
            log.write_lines(first, 5000)
            await asyncio.sleep(0.01)
        assert texts(await receiving) == numbered(0, 200_000)
    stalled.close()


async def test_a_viewer_that_leaves_leaves_nothing_behind(
    start_run: StartRun, web: WebServer, key: dict[str, str]
) -> None:
    await run_query(start_run)
    async with opened(web, LOGS, key) as viewer:
        await viewer.recv()
        assert count_followed_runs(web) == 1
    assert await stops_reading(web)


async def test_a_refused_socket_says_why(web: WebServer, key: dict[str, str], owner: User) -> None:
    _, inference = await run_query(create_key, actor=CORRAL, user=owner, name="chat", kind=KeyKind.INFERENCE)
    for path, headers, expected in (
        (LOGS, {}, (4401, "Missing API key")),
        (f"{LOGS}?api_key={inference}", {}, (4401, "Invalid API key")),
        ("/ws/instances/none/logs", key, (4404, "Instance not found")),
        ("/ws/events", {}, (4401, "Missing API key")),
    ):
        async with opened(web, path, headers) as viewer:
            assert await wait_for_close(viewer) == expected
    async with opened(web, f"{LOGS}?lines=many", key) as viewer:
        code, reason = await wait_for_close(viewer)
    assert code == 4400
    assert reason.startswith("Invalid lines parameter")


async def test_a_revoked_key_closes_its_sockets(
    start_run: StartRun,
    web: WebServer,
    key: dict[str, str],
    management_key: tuple[ApiKey, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "CHECK_S", 0.2)
    monkeypatch.setattr(consumers, "CHECK_S", 0.2)
    await run_query(start_run)
    async with opened(web, LOGS, key) as logs, opened(web, "/ws/events", key) as events:
        await logs.recv()
        await run_query(revoke_key, actor=CORRAL, key=management_key[0])
        assert await wait_for_close(logs) == (4401, "Invalid API key")
        assert await wait_for_close(events) == (4401, "Invalid API key")


async def test_rights_are_asked_for_again_though_events_never_pause(
    web: WebServer,
    key: dict[str, str],
    instance: Instance,
    management_key: tuple[ApiKey, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A revocation whose own event was lost; each event that does come would begin a wait for silence anew."""
    monkeypatch.setattr(consumers, "CHECK_S", 0.5)
    done = asyncio.Event()

    async def send_events() -> None:
        while not done.is_set():
            await run_query(publish, changed(instance))
            await asyncio.sleep(0.05)

    async with listening(web, key, instance) as listener:
        sending = asyncio.create_task(send_events())
        try:
            async with asyncio.timeout(60):
                await listener.recv()
            await run_query(ApiKey.objects.filter(pk=management_key[0].pk).update, revoked_at=timezone.now())
            assert await wait_for_close(listener) == (4401, "Invalid API key")
        finally:
            done.set()
            await sending


@pytest.mark.usefixtures("frequent_looks")
async def test_a_deleted_instance_closes_the_socket_of_its_log(
    start_run: StartRun, web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    await run_query(start_run)
    async with opened(web, LOGS, key) as viewer:
        await viewer.recv()
        await run_query(instance.delete)
        assert (await wait_for_close(viewer))[0] == 1000


def changed(instance: Instance, kind: str = "instance.changed") -> dict[str, Any]:
    return {"type": kind, "instance_id": instance.pk, "name": instance.name, "state": "ready", "version": 3}


@asynccontextmanager
async def listening(web: WebServer, headers: dict[str, str], instance: Instance) -> AsyncIterator[ClientConnection]:
    """Open the events and wait until they arrive: a subscription takes a moment."""
    async with opened(web, "/ws/events", headers) as listener:
        async with asyncio.timeout(60):
            while True:
                await run_query(publish, {**changed(instance), "version": 0})
                try:
                    async with asyncio.timeout(0.2):
                        await listener.recv()
                        break
                except TimeoutError:
                    continue
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await listener.recv()
        yield listener


async def test_events_reach_those_who_may_see_the_instance(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    def make_hidden() -> Instance:
        stranger = User.objects.create_user("bea")
        return Instance.objects.create(
            name="hidden", backend_type="command", owner=stranger, node=instance.node, port=9001
        )

    hidden = await run_query(make_hidden)
    async with listening(web, key, instance) as listener:
        await run_query(publish, changed(hidden))
        await run_query(publish, changed(instance))
        async with asyncio.timeout(60):
            assert json.loads(await listener.recv()) == changed(instance)


async def test_an_instance_made_after_the_socket_opened_is_seen_too(
    web: WebServer, key: dict[str, str], instance: Instance, owner: User
) -> None:
    async with listening(web, key, instance) as listener:
        made = await run_query(
            Instance.objects.create, name="new", backend_type="command", owner=owner, node=instance.node, port=9001
        )
        await run_query(publish, changed(made))
        async with asyncio.timeout(60):
            assert json.loads(await listener.recv())["name"] == "new"


async def test_the_end_of_an_instance_is_told_to_who_could_see_it(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    gone = changed(instance, "instance.deleted")
    async with listening(web, key, instance) as listener:
        await run_query(instance.delete)
        await run_query(publish, gone)
        async with asyncio.timeout(60):
            assert json.loads(await listener.recv()) == gone
