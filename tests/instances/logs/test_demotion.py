"""Who loses the right to an instance loses at once what they have open of it: log sockets, log streams, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from django.contrib.auth.models import Group
from django.test import Client
from websockets.asyncio.client import connect

from accounts.domain.actors import SUPERVISOR
from accounts.enums import Role
from accounts.events import announce_keys_changed, publish
from accounts.models import ApiKey, User
from instances.domain.sharing import change_owner, share_instance, unshare_instance
from instances.enums import ShareLevel
from instances.logs import session
from instances.logs.database import run_query
from instances.models import Instance
from tests.instances.logs.conftest import StartPump, StartRun
from tests.instances.logs.test_consumers import LOGS, changed, listening, receive_until, wait_for_close
from tests.instances.logs.web import WebServer, stops_reading

SECONDS = 10
"""What "at once" may take on a busy machine; without the event it would be the next check, 30 s later and more."""


@pytest.fixture(autouse=True)
def _rare_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an event can end something here: the check that comes without one is put off."""
    monkeypatch.setattr(session, "CHECK_S", 600)
    monkeypatch.setattr("instances.consumers.CHECK_S", 600)


@pytest.fixture
def viewer(instance: Instance) -> User:
    """A member of a team with which the instance is shared, and with it they may read its log."""
    user = User.objects.create_user("vera", role=Role.MEMBER)
    team = Group.objects.create(name="viewers")
    user.groups.add(team)
    share_instance(actor=SUPERVISOR, instance=instance, holder=team, level=ShareLevel.OPERATE)
    return user


@pytest.fixture
def cookie(viewer: User) -> dict[str, str]:
    """How the viewer's browser proves who it is."""
    client = Client()
    client.force_login(viewer)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def demote(viewer: User) -> None:
    share_instance(
        actor=SUPERVISOR, instance=Instance.objects.get(name="llama"), holder=viewer.groups.get(), level=ShareLevel.USE
    )


def unshare(viewer: User) -> None:
    unshare_instance(actor=SUPERVISOR, instance=Instance.objects.get(name="llama"), holder=viewer.groups.get())


def leave_team(viewer: User) -> None:
    viewer.groups.clear()
    announce_keys_changed()


def deactivate(viewer: User) -> None:
    viewer.is_active = False
    viewer.save()
    announce_keys_changed()


Loss = Callable[[User], None]
LOSSES = {demote: 4403, unshare: 4404, leave_team: 4404, deactivate: 4401}


@pytest.fixture
async def log(start_run: StartRun, pump: StartPump, instance: Instance) -> None:
    """A running engine that has said something."""
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 3)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(("lose", "code"), LOSSES.items(), ids=[loss.__name__ for loss in LOSSES])
async def test_a_log_socket_closes(web: WebServer, viewer: User, cookie: dict[str, str], lose: Loss, code: int) -> None:
    async with connect(web.socket_url(LOGS), additional_headers=cookie, compression=None) as socket:
        await receive_until(socket, "line 2")
        await run_query(lose, viewer)
        async with asyncio.timeout(SECONDS):
            assert (await wait_for_close(socket))[0] == code
    assert await stops_reading(web)


FOLLOW = "/api/v1/instances/llama/logs?follow=true"


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("path", "lose"),
    [(FOLLOW, demote), (FOLLOW, leave_team), (f"{FOLLOW}&format=sse", unshare), ("/logs/stream/llama", demote)],
)
async def test_a_log_stream_ends(web: WebServer, viewer: User, cookie: dict[str, str], path: str, lose: Loss) -> None:
    async with httpx.AsyncClient(headers=cookie, timeout=SECONDS) as client:
        async with client.stream("GET", web.url(path)) as answer, asyncio.timeout(SECONDS):
            assert answer.status_code == 200
            pieces, text = answer.aiter_text(), ""
            while "line 2" not in text:
                text += await anext(pieces)
            await run_query(lose, viewer)
            async for _ in pieces:  # until it ends
                pass
        assert (await client.get(web.url(path))).status_code in (403, 404)
    assert await stops_reading(web)


@pytest.mark.parametrize("lose", [unshare, leave_team], ids=["unshare", "leave_team"])
async def test_events_of_what_was_lost_end_and_the_page_is_told_to_look_again(
    web: WebServer, instance: Instance, viewer: User, cookie: dict[str, str], lose: Loss
) -> None:
    mine = await run_query(partial(Instance.objects.create, name="mine", owner=viewer, node=instance.node, port=9001))
    async with listening(web, cookie, instance) as socket, asyncio.timeout(SECONDS):
        await run_query(lose, viewer)
        while (told := json.loads(await socket.recv()))["type"] != "access.changed":
            assert told["type"] == "instance.changed"  # the share's own event, if it was read before the right was
        await run_query(publish, changed(instance))
        await run_query(publish, changed(mine))
        assert json.loads(await socket.recv())["name"] == "mine"  # the other one would have come first


async def test_a_socket_of_events_closes_with_the_account(
    web: WebServer, instance: Instance, viewer: User, cookie: dict[str, str]
) -> None:
    async with listening(web, cookie, instance) as socket, asyncio.timeout(SECONDS):
        await run_query(deactivate, viewer)
        assert (await wait_for_close(socket))[0] == 4401


async def test_a_former_owner_loses_the_log_too(
    start_run: StartRun, web: WebServer, instance: Instance, owner: User, management_key: tuple[ApiKey, str]
) -> None:
    await run_query(start_run)
    heir = await run_query(User.objects.create_user, "hella")
    key = {"Authorization": f"Bearer {management_key[1]}"}
    async with connect(web.socket_url(LOGS), additional_headers=key, compression=None) as socket:
        assert json.loads(await socket.recv())
        await run_query(partial(change_owner, actor=SUPERVISOR, instance=instance, owner=heir))
        async with asyncio.timeout(SECONDS):
            assert (await wait_for_close(socket))[0] == 4404
