"""Keeping routes and keys current."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import Redis

from gateway.asgi import Message
from gateway.structs import Principal
from tests.gateway.harness import CONFIG, KEY, Gateway, Upstream, Valkey, make_route, wait_until

pytestmark = pytest.mark.any_database

# So rarely that only events can be the reason for a change within a test.
RARELY = msgspec.structs.replace(
    CONFIG, refresh_interval_s=600.0, principal_refresh_age_s=600.0, principal_max_age_s=600.0
)


def make_layer(valkey: Valkey) -> RedisPubSubChannelLayer:
    return RedisPubSubChannelLayer(hosts=[valkey.url])


async def wait_subscribed(valkey: Valkey) -> None:
    """Wait until the gateway hears events and has made up for those before."""
    with Redis.from_url(valkey.url) as redis:
        await wait_until(lambda: redis.pubsub_numsub("asgi__group__events")[0][1])
    await asyncio.sleep(0.1)


async def wait_for_status(gateway: Gateway, status: int) -> None:
    """Ask until the answer has this status."""
    async with asyncio.timeout(60):
        while (await gateway.ask()).status_code != status:  # noqa: ASYNC110  it is told by answers only
            await asyncio.sleep(0.01)


async def test_events_bring_new_routes_and_take_revoked_keys_within_a_moment(
    valkey: Valkey, upstream: Upstream
) -> None:
    layer = make_layer(valkey)
    async with Gateway(RARELY, redis_url=valkey.url, channel_layer=layer) as gateway:
        await wait_subscribed(valkey)
        gateway.routes = (make_route(upstream),)
        event = {"type": "instance.changed", "instance_id": 1, "name": "m", "state": "ready", "version": 1}
        await layer.group_send("events", event)
        await wait_until(lambda: "m" in gateway.app.runtime.routes.by_name)
        assert (await gateway.ask()).status_code == 200

        gateway.keys.clear()
        assert (await gateway.ask()).status_code == 200
        await layer.group_send("events", {"type": "keys.changed"})
        await wait_for_status(gateway, 401)

        gateway.routes = ()
        await layer.group_send("events", {**event, "type": "instance.deleted"})
        await wait_until(lambda: "m" not in gateway.app.runtime.routes.by_name)
    await layer.flush()


async def test_events_are_heard_again_after_valkey_was_away(valkey: Valkey, upstream: Upstream) -> None:
    layer = make_layer(valkey)
    async with Gateway(RARELY, redis_url=valkey.url, channel_layer=layer) as gateway:
        await wait_subscribed(valkey)
        valkey.stop()
        await asyncio.sleep(0.3)
        gateway.routes = (make_route(upstream),)
        valkey.start()
        # What was missed is made up for, without an event ...
        await wait_until(lambda: "m" in gateway.app.runtime.routes.by_name)
        await wait_subscribed(valkey)
        # ... and the next event arrives.
        gateway.routes = ()
        await layer.group_send("events", {"type": "instance.deleted", "instance_id": 1, "name": "m"})
        await wait_until(lambda: "m" not in gateway.app.runtime.routes.by_name)
    await layer.flush()


async def test_a_revoked_key_is_not_believed_after_a_pause_while_valkey_is_away(
    valkey: Valkey, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make_layer(valkey)
    often = msgspec.structs.replace(CONFIG, principal_refresh_age_s=0.05)
    async with Gateway(often, redis_url=valkey.url, channel_layer=layer) as gateway:
        await wait_subscribed(valkey)
        await gateway.set_routes(make_route(upstream))
        assert (await gateway.ask()).status_code == 200
        caplog.clear()
        valkey.stop()
        await wait_until(lambda: "The gateway can't report to Redis" in caplog.text)
        await asyncio.sleep(3 * often.principal_refresh_age_s)  # the pause
        gateway.keys.clear()
        assert (await gateway.ask()).status_code == 401
        valkey.start()
    await layer.flush()


async def test_without_events_everything_is_read_regularly(upstream: Upstream) -> None:
    often = msgspec.structs.replace(CONFIG, refresh_interval_s=0.2, principal_refresh_age_s=0.2)
    async with Gateway(often) as gateway:
        gateway.routes = (make_route(upstream),)
        await wait_until(lambda: "m" in gateway.app.runtime.routes.by_name)
        assert (await gateway.ask()).status_code == 200
        gateway.keys.clear()
        await wait_for_status(gateway, 401)


async def test_a_broken_database_stops_no_request(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert (await gateway.ask()).status_code == 200
    gateway.database_error = RuntimeError("database is locked")
    loads = gateway.loads
    await wait_until(lambda: gateway.loads > loads + 2)
    assert (await gateway.ask()).status_code == 200
    assert caplog.text.count("The routes can't be read; the last known ones stay in use: database is locked") == 1
    gateway.database_error = None
    await gateway.set_routes(make_route())
    assert "The routes can be read again" in caplog.text


async def test_a_new_instance_is_usable_by_its_owners_key_at_once(gateway: Gateway, upstream: Upstream) -> None:
    gateway.keys[KEY] = Principal(kind="inference", instances=frozenset([1]))
    assert (await gateway.ask()).status_code == 200
    gateway.keys[KEY] = Principal(kind="inference", instances=frozenset([1, 2]))
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="new", instance_id=2))
    assert (await gateway.ask({"model": "new"})).status_code == 200


async def test_unchanged_routes_disturb_nobody(gateway: Gateway, upstream: Upstream) -> None:
    change = asyncio.create_task(gateway.app.runtime.routes.wait_change())
    loads = gateway.loads
    await wait_until(lambda: gateway.loads > loads + 3)
    assert not change.done()
    await gateway.set_routes(make_route())
    await change


async def test_a_server_without_lifespan_events_starts_it_with_the_first_request(upstream: Upstream) -> None:
    gateway = Gateway()
    gateway.routes = (make_route(upstream),)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"x-api-key", KEY.encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "headers": headers}
    await asyncio.gather(*(gateway.app(scope, receive, send) for _ in range(5)))
    assert [message["status"] for message in sent if "status" in message] == [200] * 5
    await gateway.app.stop()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any(name.startswith("gateway-") for name in names)


async def test_a_name_that_came_a_moment_ago_is_found_though_no_event_told_of_it(upstream: Upstream) -> None:
    async with Gateway(RARELY) as gateway:
        gateway.routes = (make_route(upstream),)  # in the database, unknown to the gateway
        assert (await gateway.ask()).status_code == 200


async def test_unknown_names_share_readings_that_keep_their_distance() -> None:
    async with Gateway(RARELY) as gateway:
        before = gateway.loads
        answers = await asyncio.gather(*(gateway.ask({"model": f"none-{number}"}) for number in range(50)))
        assert {answer.status_code for answer in answers} == {404}
        assert gateway.loads - before <= 10  # of 50
