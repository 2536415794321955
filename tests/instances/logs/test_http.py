"""``GET .../logs?follow=true`` over a real uvicorn, as curl and EventSource use it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key, revoke_key
from accounts.enums import KeyKind, PermissionMode
from accounts.events import publish
from accounts.models import ApiKey, User
from instances.enums import ShareLevel
from instances.logs import http, session
from instances.logs.database import run_query
from instances.models import Instance, InstanceShare, KeyPermission, Run
from tests.instances.logs.conftest import RunLog, StartPump, StartRun
from tests.instances.logs.web import WebServer, count_followed_runs, stops_reading

LOGS = "/api/v1/instances/llama/logs?follow=true"


@pytest.fixture
def key(management_key: tuple[ApiKey, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {management_key[1]}"}


@asynccontextmanager
async def opened(web: WebServer, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=60) as browser,
        browser.stream("GET", web.url(path), headers=headers) as response,
    ):
        yield response


async def read_until(texts: AsyncIterator[str], ending: str) -> str:
    """Return the text up to and with the ending; asks for no more than that."""
    text = ""
    async with asyncio.timeout(60):
        while not text.endswith(ending):
            text += await anext(texts)
    return text


async def read_events(response: httpx.Response, until: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, message) of the events up to the log line."""
    events: list[tuple[str, dict[str, Any]]] = []
    identity = ""
    async with asyncio.timeout(60):
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                identity = line[4:]
            elif line.startswith("data: "):
                events.append((identity, json.loads(line[6:])))
                if any(entry[2] == until for entry in events[-1][1].get("lines", [])):
                    return events
    raise AssertionError("the stream ended")


def lines_of(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [entry[2] for _, message in events for entry in message.get("lines", [])]


async def test_curl_sees_old_lines_and_then_new_ones_as_text(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 200)
    async with opened(web, f"{LOGS}&lines=3", key) as response:
        texts = response.aiter_text()
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["x-accel-buffering"] == "no"
        assert await read_until(texts, "line 199\n") == "line 197\nline 198\nline 199\n"
        log.write_lines(200, 2)
        log.write("oops\n", "stderr")
        assert await read_until(texts, "oops\n") == "line 200\nline 201\noops\n"


@pytest.mark.usefixtures("frequent_looks")
async def test_a_whole_run_begins_and_ends_with_markers(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    run, log = await run_query(start_run)
    copying = pump(run, log)
    log.write_lines(0, 1)
    async with opened(web, LOGS, key) as response:
        texts = response.aiter_text()
        started, line, nothing = (await read_until(texts, "line 0\n")).split("\n")
        assert started.startswith("=== Instance llama started at 20")
        assert (line, nothing) == ("line 0", "")
        log.close()
        await copying.finish()
        second, next_log = await run_query(start_run)
        pump(second, next_log)
        next_log.write_lines(1, 1)
        rest = await read_until(texts, "line 1\n")
        stopped, blank, started, line, _ = rest.split("\n")
        assert stopped.startswith("=== Instance llama stopped at 20")
        assert started.startswith("=== Instance llama started at 20")
        assert (blank, line) == ("", "line 1")


async def test_a_line_of_10_megabytes_comes_through_whole(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    async with opened(web, f"{LOGS}&lines=0", key) as response:
        texts = response.aiter_text()
        log.write("x" * 10_000_000 + "\nafter\n")
        text = await read_until(texts, "after\n")
    assert text.split("\n", 1)[1] == "x" * 10_000_000 + "\nafter\n"


async def test_one_stream_and_timestamps_can_be_chosen(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write("out\n")
    log.write("err\n", "stderr")
    async with opened(web, f"{LOGS}&stream=stderr&timestamps=true", key) as response:
        texts = response.aiter_text()
        time, text = (await read_until(texts, "err\n")).split(" ", 1)
    assert time.startswith("20")
    assert time.endswith("Z")
    assert text == "err\n"


async def test_an_unfinished_line_is_shown_and_finished_later(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    async with opened(web, LOGS, key) as response:
        texts = response.aiter_text()
        log.write("loading")
        log.flush()
        await read_until(texts, "loading")
        log.write(" done\n")
        assert await anext(texts) == " done\n"


async def test_events_carry_the_cursor_and_go_on_at_the_last_one(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 100)
    headers = {**key, "Accept": "text/event-stream"}
    async with opened(web, f"{LOGS}&lines=1000", headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        first = await read_events(response, "line 99")
    log.write_lines(100, 100)
    async with opened(web, f"{LOGS}&lines=1000", {**headers, "Last-Event-ID": first[-1][0]}) as response:
        second = await read_events(response, "line 199")
    assert lines_of(first + second) == [f"line {number}" for number in range(200)]
    assert first[0][1] | {"started_at": None} == {
        "type": "run",
        "event": "begins",
        "cursor": f"{run.pk}:0",
        "run_id": run.pk,
        "state": "running",
        "started_at": None,
        "exited_at": None,
    }
    assert first[-1][0] == first[-1][1]["cursor"]


async def test_a_quiet_event_stream_is_kept_alive(
    start_run: StartRun, web: WebServer, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.1)
    await run_query(start_run)
    async with opened(web, f"{LOGS}&format=sse", key) as response:
        texts = response.aiter_text()
        assert (await read_until(texts, ": keep-alive\n\n")).endswith(": keep-alive\n\n")


async def test_a_cursor_of_another_instance_opens_nothing_of_it(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    def make_other() -> Run:
        other = Instance.objects.create(name="other", backend_type="command", node=instance.node, port=9001)
        return Run.objects.create(instance=other, node=instance.node, port=9001, generation=1, token="t")

    other = await run_query(make_other)
    secret = RunLog(instance_log(web, other))
    secret.write("secret\n")
    pump(other, secret)
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 1)
    async with opened(web, f"{LOGS}&format=sse&cursor={other.pk}:0", key) as response:
        events = await read_events(response, "line 0")
    assert lines_of(events) == ["line 0"]


def instance_log(web: WebServer, run: Run) -> Any:
    from django.conf import settings

    return settings.CORRAL.data_dir / "logs" / "other" / f"{run.pk}.log"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("lines=abc", "lines"),
        ("lines=1.5", "lines"),
        ("stream=both", "stream"),
        ("cursor=x", "cursor"),
        ("lines=٣", "lines"),
    ],
)
async def test_a_bad_parameter_is_named(web: WebServer, key: dict[str, str], query: str, words: str) -> None:
    async with opened(web, f"{LOGS}&{query}", key) as response:
        body = json.loads(await response.aread())
    assert response.status_code == 400
    assert body["error"] == "invalid_parameter"
    assert body["details"].startswith(f"Invalid {words} parameter")


async def test_an_unknown_instance_is_not_found(web: WebServer, key: dict[str, str]) -> None:
    async with opened(web, "/api/v1/instances/none/logs?follow=true", key) as response:
        assert response.status_code == 404
        assert json.loads(await response.aread()) == {"error": "invalid_instance", "details": "Instance not found"}


async def test_without_a_key_nobody_follows(web: WebServer, owner: User) -> None:
    _, inference = await run_query(create_key, actor=CORRAL, user=owner, name="chat", kind=KeyKind.INFERENCE)
    for headers, message in (({}, "Missing API key"), ({"X-API-Key": inference}, "Invalid API key")):
        async with opened(web, LOGS, headers) as response:
            assert response.status_code == 401
            body = json.loads(await response.aread())
        assert body == {"error": {"message": message, "type": "authentication_error"}}


def sign_in(user: User) -> dict[str, str]:
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return {"Cookie": f"sessionid={store.session_key}"}


async def test_a_session_opens_what_its_person_may_see(
    start_run: StartRun, pump: StartPump, web: WebServer, owner: User, instance: Instance
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 1)
    async with opened(web, LOGS, await run_query(sign_in, owner)) as response:
        texts = response.aiter_text()
        await read_until(texts, "line 0\n")
    stranger = await run_query(User.objects.create_user, "bea")
    cookie = await run_query(sign_in, stranger)
    async with opened(web, LOGS, cookie) as response:
        texts = response.aiter_text()
        assert response.status_code == 404
    share = await run_query(InstanceShare.objects.create, instance=instance, user=stranger)
    async with opened(web, LOGS, cookie) as response:
        assert response.status_code == 403
        assert json.loads(await response.aread())["error"] == "permission_denied"
    await run_query(InstanceShare.objects.filter(pk=share.pk).update, level=ShareLevel.OPERATE)
    async with opened(web, LOGS, cookie) as response:
        assert response.status_code == 200


async def test_a_key_for_chosen_instances_opens_only_those(web: WebServer, owner: User, instance: Instance) -> None:
    key, plain = await run_query(
        create_key,
        actor=CORRAL,
        user=owner,
        name="k",
        kind=KeyKind.MANAGEMENT,
        permission_mode=PermissionMode.PER_INSTANCE,
    )
    async with opened(web, LOGS, {"X-API-Key": plain}) as response:
        assert response.status_code == 404
    await run_query(KeyPermission.objects.create, api_key=key, instance=instance)
    async with opened(web, LOGS, {"X-API-Key": plain}) as response:
        assert response.status_code == 200


async def test_a_revoked_key_ends_the_stream_at_the_next_check(
    start_run: StartRun,
    web: WebServer,
    key: dict[str, str],
    management_key: tuple[ApiKey, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "CHECK_S", 0.2)
    await run_query(start_run)
    async with opened(web, LOGS, key) as response:
        assert response.status_code == 200
        await run_query(revoke_key, actor=CORRAL, key=management_key[0])
        async with asyncio.timeout(60):
            await response.aread()


async def test_an_event_about_keys_ends_the_stream_of_a_revoked_one_at_once(
    start_run: StartRun, web: WebServer, key: dict[str, str], management_key: tuple[ApiKey, str]
) -> None:
    await run_query(start_run)
    async with opened(web, LOGS, key) as response:
        texts = response.aiter_text()
        await anext(texts)
        await asyncio.sleep(0.5)
        await run_query(revoke_key, actor=CORRAL, key=management_key[0])
        await run_query(publish, {"type": "keys.changed"})
        async with asyncio.timeout(60):
            assert [text async for text in texts] == []


async def test_a_client_that_leaves_leaves_nothing_behind(
    start_run: StartRun, web: WebServer, key: dict[str, str]
) -> None:
    await run_query(start_run)
    async with opened(web, LOGS, key) as response:
        texts = response.aiter_text()
        await anext(texts)
        assert count_followed_runs(web) == 1
    assert await stops_reading(web)


def test_only_following_is_taken_from_django() -> None:
    def scope(path: str, query: str = "follow=true", method: str = "GET") -> dict[str, Any]:
        return {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}

    assert http.handles(scope("/api/v1/instances/a.b/logs"))
    assert http.handles(scope("/api/v1/instances/a/logs/", "lines=3&follow=1"))
    assert not http.handles(scope("/api/v1/instances/a/logs", "follow=false"))
    assert not http.handles(scope("/api/v1/instances/a/logs", ""))
    assert not http.handles(scope("/api/v1/instances/a/b/logs"))
    assert not http.handles(scope("/api/v1/instances/a/logs", method="POST"))
    assert not http.handles({"type": "websocket", "path": "/api/v1/instances/a/logs"})
