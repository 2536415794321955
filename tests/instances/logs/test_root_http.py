"""llama-swap's ``/logs``, ``/logs/stream`` and ``/logs/stream/{id}`` over a real uvicorn."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key, revoke_key
from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import ApiKey, User
from instances.domain.transitions import record_event, transition
from instances.enums import ShareLevel, State
from instances.logs import root_http, session
from instances.logs.database import run_query
from instances.models import Instance, InstanceEvent, InstanceShare, KeyPermission
from tests.instances.logs.conftest import StartPump, StartRun
from tests.instances.logs.engines import make_instance, reading, start_engine
from tests.instances.logs.web import WebServer, count_followed_runs, stops_reading

INVALID = "invalid logger. Use 'proxy', 'upstream' or a model's ID"


@pytest.fixture
def key(management_key: tuple[ApiKey, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {management_key[1]}"}


async def get(web: WebServer, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as browser:
        return await browser.request(method, web.url(path), headers=headers)


def make_stranger(name: str = "bea", role: Role = Role.MEMBER) -> tuple[User, dict[str, str]]:
    user = User.objects.create_user(name, role=role)
    return user, {"X-API-Key": create_key(actor=CORRAL, user=user, name="terminal", kind=KeyKind.MANAGEMENT)[1]}


async def say(instance: Instance, reason: str = "", **fields: Any) -> None:
    fields = {"kind": "start", "actor": "user:anna"} | fields
    await run_query(record_event, instance, reason=reason, **fields)


# What Corral says


async def test_the_messages_are_lines_with_levels_and_first_lines_of_reasons(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    await say(instance)
    await run_query(transition, instance.pk, to=State.BACKOFF, actor="supervisor", reason="It crashed.\nsecret prompt")
    await run_query(transition, instance.pk, to=State.STARTING, actor="supervisor")
    await run_query(transition, instance.pk, to=State.FAILED, actor="supervisor", reason="no\x1b[31m file")
    await say(instance, kind="refused", actor="supervisor", reason="All places are taken.")
    answer = await get(web, "/logs", key)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.splitlines() == [
        "[INFO] llama start by user:anna",
        "[WARN] llama ready -> backoff (It crashed.)",
        "[INFO] llama backoff -> starting",
        "[ERROR] llama starting -> failed (no [31m file)",
        "[WARN] llama refused by supervisor (All places are taken.)",
    ]


@pytest.mark.parametrize("path", ["/logs/stream", "/logs/stream/", "/logs/stream/proxy"])
async def test_the_stream_gives_the_messages_there_are_and_then_each_new_one_once(
    web: WebServer, key: dict[str, str], instance: Instance, path: str
) -> None:
    await say(instance, "first")
    async with reading(web, path, key) as reader:
        headers = reader.response.headers
        assert headers["content-type"].startswith("text/plain")
        assert headers["transfer-encoding"] == "chunked"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-accel-buffering"] == "no"
        await reader.read_until("(first)\n")
        await say(instance, "second")
        await reader.read_until("(second)\n")
        await say(instance, "third")
        text = await reader.read_until("(third)\n")
    assert text == "".join(f"[INFO] llama start by user:anna ({word})\n" for word in ("first", "second", "third"))


async def test_without_history_only_new_messages_come(web: WebServer, key: dict[str, str], instance: Instance) -> None:
    await say(instance, "old")
    async with reading(web, "/logs/stream?no-history", key) as reader:
        await say(instance, "new")
        assert await reader.read_until("(new)\n") == "[INFO] llama start by user:anna (new)\n"


async def test_the_history_is_cut_at_a_line_below_100_kib(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    def fill() -> None:
        InstanceEvent.objects.bulk_create(
            InstanceEvent(
                instance=instance, instance_name="llama", kind="start", actor="a", reason=f"{number} {'x' * 200}"
            )
            for number in range(1000)
        )

    await run_query(fill)
    text = (await get(web, "/logs", key)).text
    assert 100_000 < len(text) <= 102_400
    numbers = [int(line.partition("(")[2].split()[0]) for line in text.splitlines()]
    assert numbers == list(range(1000 - len(numbers), 1000))
    assert all(line.startswith("[INFO] llama start") and line.endswith("x)") for line in text.splitlines())


@pytest.mark.usefixtures("frequent_looks")
async def test_a_message_that_is_committed_late_is_told(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    """Ids are given when a transaction begins to write, not when it is committed."""
    first = await run_query(record_event, instance, kind="start", actor="a", reason="one")
    async with reading(web, "/logs/stream", key) as reader:
        await reader.read_until("(one)\n")
        fields = {"instance": instance, "instance_name": "llama", "kind": "start", "actor": "a"}
        await run_query(InstanceEvent.objects.create, pk=first.pk + 50, reason="of a higher id", **fields)
        await reader.read_until("(of a higher id)\n")
        await run_query(InstanceEvent.objects.create, pk=first.pk + 49, reason="late", **fields)
        text = await reader.read_until("(late)\n")
    assert text.count("\n") == 3


async def test_only_messages_about_visible_instances_are_told(
    web: WebServer, key: dict[str, str], instance: Instance, owner: User
) -> None:
    stranger, theirs = await run_query(make_stranger)
    hidden = await run_query(make_instance, "hidden", stranger)
    await say(hidden, "before")
    await say(instance, "mine")
    assert "hidden" not in (await get(web, "/logs", key)).text
    assert (await get(web, "/logs", theirs)).text == "[INFO] hidden start by user:anna (before)\n"
    async with reading(web, "/logs/stream", key) as reader:
        await say(hidden, "while following")
        await say(instance, "last")
        assert "hidden" not in await reader.read_until("(last)\n")
        # A right that is given now opens what comes, not what was.
        await run_query(InstanceShare.objects.create, instance=hidden, user=owner)
        await say(hidden, "shared")
        text = await reader.read_until("(shared)\n")
    assert "while following" not in text


async def test_messages_about_deleted_instances_are_for_those_who_see_all(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    _, operator = await run_query(make_stranger, "olga", Role.OPERATOR)
    await say(instance, kind="deleted")
    await run_query(instance.delete)
    assert (await get(web, "/logs", operator)).text == "[INFO] llama deleted by user:anna\n"
    answer = await get(web, "/logs", key)
    assert (answer.status_code, answer.text) == (200, "")


# What one model prints


@pytest.mark.usefixtures("frequent_looks")
async def test_a_models_raw_output_is_kept_over_restarts(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    copying = pump(run, log)
    log.write_lines(0, 2)
    log.close()
    await copying.finish()
    second, next_log = await run_query(start_run)
    copying = pump(second, next_log)
    next_log.write_lines(2, 1)
    async with reading(web, "/logs/stream/llama", key) as reader:
        await reader.read_until("line 2\n")
        next_log.write("half")
        next_log.flush()
        await reader.read_until("half")
        next_log.write(" and half\n", "stdout")
        next_log.write("oops\n", "stderr")
        await reader.read_until("oops\n")
        next_log.close()
        await copying.finish()
        third, last_log = await run_query(start_run)
        pump(third, last_log)
        last_log.write_lines(3, 1)
        text = await reader.read_until("line 3\n")
    assert text == "line 0\nline 1\nline 2\nhalf and half\noops\nline 3\n"


async def test_without_history_a_model_begins_where_it_is(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 10)
    async with reading(web, "/logs/stream/llama?no-history", key) as reader:
        log.write_lines(10, 1)
        assert await reader.read_until("line 10\n") == "line 10\n"


async def test_a_models_history_is_cut_at_a_line_below_100_kib(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 30_000)
    async with reading(web, "/logs/stream/llama", key) as reader:
        lines = (await reader.read_until("line 29999\n")).splitlines()
    assert lines == [f"line {number}" for number in range(30_000 - len(lines), 30_000)]
    # Lines of 11 bytes are 52 in the file, so a bounded look finds less than 100 KiB of them.
    assert 50_000 < 11 * len(lines) <= 102_400


@pytest.mark.parametrize("path", ["llama", "org/model", "org/model/", "org/model/7b/extra", "llama/x", "proxy.2"])
async def test_a_model_is_found_by_name_or_alias_with_the_longest_match(
    start_run: StartRun, web: WebServer, key: dict[str, str], owner: User, path: str
) -> None:
    await run_query(make_instance, "short", owner, "org")
    long = await run_query(make_instance, "long", owner, "org/model/7b", "proxy.2")
    aliased = await run_query(make_instance, "aliased", owner, "org/model")
    _, log = await run_query(start_run)
    log.write("the log of llama\n")
    for other in (long, aliased):
        _, other_log = await run_query(start_engine, other)
        other_log.write(f"the log of {other.name}\n")
    expected = "long" if path in ("org/model/7b/extra", "proxy.2") else "aliased" if "org" in path else "llama"
    async with reading(web, f"/logs/stream/{path}", key) as reader:
        assert await reader.read_until("\n") == f"the log of {expected}\n"


@pytest.mark.parametrize("path", ["none", "org/none", "%00", "hidden", "x" * 3000, "a/" * 2000, "Proxy", "llamas"])
async def test_what_is_no_logger_is_refused_in_llama_swaps_words(
    web: WebServer, key: dict[str, str], instance: Instance, path: str
) -> None:
    stranger, _ = await run_query(make_stranger)
    await run_query(make_instance, "hidden", stranger)
    answer = await get(web, f"/logs/stream/{path}", key)
    assert (answer.status_code, answer.text) == (400, INVALID)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_slow_reader_is_told_what_is_gone_and_holds_up_nobody(
    web: WebServer, start_run: StartRun, pump: StartPump, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instances.logs.stream.KEPT_BYTES", 2**20)
    monkeypatch.setattr("instances.logs.feed.RING_BYTES", 2**20)
    run, log = await run_query(start_run, max_bytes=2**20, max_files=2)
    pump(run, log)
    async with (
        reading(web, "/logs/stream/llama", key) as slow,
        reading(web, "/logs/stream/upstream", key) as slow_too,
        reading(web, "/logs/stream/llama", key) as quick,
    ):
        for number in range(200):
            log.write(f"{number} {'x' * 99_000}\n")
            if number % 5 == 4:
                await quick.read_until(f"\n{number - 1} x")
        log.write("the end\n")
        assert "dropped" not in await quick.read_until("the end\n")
        for reader in (slow, slow_too):
            text = await reader.read_until("the end\n")
            gaps = [line for line in text.splitlines() if "dropped" in line]
            assert gaps
            assert all(line.startswith("— ") and line.endswith(" bytes dropped —") for line in gaps)
            assert len(text) + sum(int(line.split()[1]) for line in gaps) >= 200 * 99_000


# What all running instances print


async def test_upstream_gives_the_output_of_all_running_instances_by_time_and_then_as_it_comes(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str], owner: User
) -> None:
    other = await run_query(make_instance, "qwen", owner)
    stopped = await run_query(make_instance, "stopped", owner)
    for (run, log), text in (
        (await run_query(start_run), "one"),
        (await run_query(start_engine, other), "two"),
        (await run_query(start_engine, stopped), "of a stopped one"),
    ):
        pump(run, log)
        log.write(f"{text}\n")
        if text == "one":
            first = log
        elif text == "two":
            second = log
    first.write("three\n")
    await run_query(stopped.runs.update, exited_at=run.started_at)
    async with reading(web, "/logs/stream/upstream", key) as reader:
        assert await reader.read_until("three\n") == "one\ntwo\nthree\n"
        second.write("four\n")
        await reader.read_until("four\n")
        first.write("an unfinished")
        first.flush()
        await reader.read_until("an unfinished")
        second.write("five\n")
        await reader.read_until("five\n")
        first.write(" line\n")
        text = await reader.read_until(" line\n")
    assert text == "one\ntwo\nthree\nfour\nan unfinished\nfive\n line\n"


async def test_upstream_without_history_begins_where_it_is(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str]
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    log.write("old\n")
    async with reading(web, "/logs/stream/upstream?no-history", key) as reader:
        log.write("new\n")
        assert await reader.read_until("new\n") == "new\n"


async def test_instances_that_start_and_restart_appear_in_upstream(
    web: WebServer, pump: StartPump, key: dict[str, str], instance: Instance, owner: User
) -> None:
    async with reading(web, "/logs/stream/upstream", key) as reader:
        for number in range(3):
            run, log = await run_query(start_engine, instance)
            copying = pump(run, log)
            log.write(f"run {number}\n")
            if number == 1:  # one that is over before anybody looks
                log.close()
                await run_query(instance.runs.update, exited_at=run.started_at)
            await say(instance)
            await reader.read_until(f"run {number}\n")
            if number != 1:
                log.close()
            await copying.finish()
        made = await run_query(make_instance, "new", owner)
        run, log = await run_query(start_engine, made)
        pump(run, log)
        log.write("a new one\n")
        text = await reader.read_until("a new one\n")
    assert text == "run 0\nrun 1\nrun 2\na new one\n"


@pytest.mark.usefixtures("frequent_looks")
async def test_upstream_holds_nothing_of_instances_whose_logs_may_not_be_read(
    start_run: StartRun, pump: StartPump, web: WebServer, key: dict[str, str], owner: User
) -> None:
    stranger, _ = await run_query(make_stranger)
    hidden = await run_query(make_instance, "hidden", stranger)
    run, log = await run_query(start_run)
    pump(run, log)
    secret_run, secret = await run_query(start_engine, hidden)
    pump(secret_run, secret)
    secret.write("secret\n")
    log.write("0\n")
    async with reading(web, "/logs/stream/upstream", key) as reader:
        share = await run_query(InstanceShare.objects.create, instance=hidden, user=owner, level=ShareLevel.USE)
        secret.write("secret\n")
        await asyncio.sleep(1)
        log.write("1\n")
        assert "secret" not in await reader.read_until("1\n")
        await run_query(InstanceShare.objects.filter(pk=share.pk).update, level=ShareLevel.OPERATE)
        await say(hidden)
        await reader.read_until("secret\nsecret\n")
        await run_query(share.delete)
        await asyncio.sleep(1)
        before = reader.text.count("secret")
        secret.write("secret\n")
        log.write("2\n")
        assert (await reader.read_until("2\n")).count("secret") == before


# Who may ask


@pytest.mark.parametrize("path", ["/logs", "/logs/stream", "/logs/stream/upstream", "/logs/stream/llama"])
async def test_it_takes_a_management_key_or_a_session(
    web: WebServer, instance: Instance, owner: User, path: str
) -> None:
    _, inference = await run_query(create_key, actor=CORRAL, user=owner, name="chat", kind=KeyKind.INFERENCE)
    for headers, message in (({}, "Missing API key"), ({"X-API-Key": inference}, "Invalid API key")):
        answer = await get(web, path, headers)
        assert answer.status_code == 401
        assert answer.json() == {"error": {"message": message, "type": "authentication_error"}}


async def test_a_share_to_use_a_model_does_not_open_its_log(web: WebServer, instance: Instance) -> None:
    stranger, theirs = await run_query(make_stranger)
    await run_query(InstanceShare.objects.create, instance=instance, user=stranger)
    answer = await get(web, "/logs/stream/llama", theirs)
    assert answer.status_code == 403
    assert answer.json()["error"] == "permission_denied"


async def test_a_key_for_chosen_instances_sees_nothing_of_the_others(
    web: WebServer, start_run: StartRun, instance: Instance, owner: User
) -> None:
    chosen = await run_query(make_instance, "chosen", owner)
    rights = {"kind": KeyKind.MANAGEMENT, "permission_mode": PermissionMode.PER_INSTANCE}
    limited, plain = await run_query(create_key, actor=CORRAL, user=owner, name="k", **rights)
    await run_query(KeyPermission.objects.create, api_key=limited, instance=chosen)
    await say(instance, "not for this key")
    await say(chosen, "for this key")
    _, log = await run_query(start_run)
    log.write("not for this key\n")
    _, log = await run_query(start_engine, chosen)
    log.write("for this key\n")
    headers = {"X-API-Key": plain}
    assert (await get(web, "/logs", headers)).text == "[INFO] chosen start by user:anna (for this key)\n"
    assert (await get(web, "/logs/stream/llama", headers)).status_code == 400
    async with reading(web, "/logs/stream/upstream", headers) as reader:
        assert await reader.read_until("\n") == "for this key\n"


@pytest.mark.parametrize("path", ["/logs/stream", "/logs/stream/upstream", "/logs/stream/llama"])
async def test_a_revoked_key_ends_the_stream_at_once(
    web: WebServer, start_run: StartRun, key: dict[str, str], management_key: tuple[ApiKey, str], path: str
) -> None:
    _, log = await run_query(start_run)
    log.write("line\n")
    instance = await run_query(Instance.objects.get)
    await say(instance)
    async with reading(web, path, key) as reader:
        await reader.read_until("\n")
        await asyncio.sleep(0.5)
        await run_query(revoke_key, actor=CORRAL, key=management_key[0])
        await reader.read_to_end()


@pytest.mark.usefixtures("frequent_looks")
async def test_a_key_revoked_while_no_event_gets_through_ends_the_stream_at_the_next_look(
    web: WebServer,
    instance: Instance,
    key: dict[str, str],
    management_key: tuple[ApiKey, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "CHECK_S", 60)
    async with reading(web, "/logs/stream/upstream", key) as reader:
        await run_query(ApiKey.objects.filter(pk=management_key[0].pk).delete)
        await reader.read_to_end()


async def test_a_client_that_leaves_leaves_nothing_behind(
    web: WebServer, start_run: StartRun, pump: StartPump, key: dict[str, str], owner: User
) -> None:
    other = await run_query(make_instance, "other", owner)
    for run, log in (await run_query(start_run), await run_query(start_engine, other)):
        pump(run, log)
        log.write("line\n")
    async with reading(web, "/logs/stream/upstream", key) as reader:
        await reader.read_until("line\nline\n")
        assert count_followed_runs(web) == 2
    assert await stops_reading(web)


# Forms


async def test_browsers_are_sent_to_the_dashboard(web: WebServer, owner: User) -> None:
    answer = await get(web, "/logs", {"Accept": "text/html,application/xhtml+xml,*/*"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
    assert answer.text


async def test_head_answers_without_a_body_and_other_methods_are_refused(
    web: WebServer, key: dict[str, str], instance: Instance
) -> None:
    for path in ("/logs", "/logs/stream", "/logs/stream/upstream"):
        answer = await get(web, path, key, "HEAD")
        assert (answer.status_code, answer.text) == (200, "")
        answer = await get(web, path, key, "POST")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.text


def test_only_the_log_routes_are_taken_from_django() -> None:
    def scope(path: str, kind: str = "http") -> dict[str, Any]:
        return {"type": kind, "method": "GET", "path": path, "query_string": b"", "headers": []}

    for path in ("/logs", "/logs/", "/logs/stream", "/logs/stream/", "/logs/stream/a/b", "/logs/stream/\n"):
        assert root_http.handles(scope(path))
    for path in ("/", "/logs/x", "/logsx", "/logs/streams", "/api/v1/instances/logs", "/x/logs"):
        assert not root_http.handles(scope(path))
    assert not root_http.handles(scope("/logs/stream", "websocket"))


async def test_a_database_that_does_not_answer_is_said_so(
    web: WebServer, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def fail(plain: str) -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr("instances.logs.access.find_presented_key", fail)
    answer = await get(web, "/logs/stream", key)
    assert answer.status_code == 503
    assert "the database does not answer" in json.loads(answer.text)["details"]
