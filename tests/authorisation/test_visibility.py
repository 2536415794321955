"""What lists, logs, figures and pages tell of instances follows from who may see them, and changes with a share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from django.utils import timezone

from accounts.domain.actors import SUPERVISOR
from accounts.models import HourlyUsage, RequestRecord, User
from instances.domain.sharing import share_instance, unshare_instance
from instances.domain.transitions import record_event
from instances.enums import ShareLevel
from instances.logs.database import run_query
from instances.models import Instance
from tests.authorisation.world import Portal

pytestmark = pytest.mark.timeout(1800)  # hundreds of calls in one test

PATHS = (
    "/v1/models",
    "/models",
    "/running",
    "/running?detail=1",
    "/metrics",
    "/logs",
    "/health",
    "/",
    "/api/v1/instances",
)
READY_ONLY = ("/running", "/running?detail=1", "/health")
"""What tells of running instances alone; `omega` is stopped."""


def let_things_happen() -> None:
    for instance in Instance.objects.all():
        record_event(instance, kind="transition", actor="supervisor", from_state="starting", to_state="ready")


def change_share(change: Callable[..., object], user: str, **level: ShareLevel) -> None:
    holder = User.objects.get(username=user)
    change(actor=SUPERVISOR, instance=Instance.objects.get(name="alpha"), holder=holder, **level)


async def names_at(portal: Portal, path: str, caller: str) -> set[str]:
    body = (await portal.ask("GET", path, caller)).body.decode()
    return {name for name in ("alpha", "omega") if name in body}


@pytest.mark.parametrize("path", PATHS)
async def test_everybody_is_told_of_what_they_may_see(portal: Portal, path: str) -> None:
    await portal.freshen()
    await run_query(let_things_happen)
    everything = {"alpha"} if path in READY_ONLY else {"alpha", "omega"}

    for caller, names in {"anonymous": set(), "member": set(), "use": {"alpha"}, "operator": everything}.items():
        assert await names_at(portal, path, caller) == names, caller
    if path not in ("/", "/health"):  # pages take no keys
        limited = set() if path in READY_ONLY else {"omega"}
        caller = "limited management key" if path in ("/logs", "/api/v1/instances") else "limited inference key"
        assert await names_at(portal, path, caller) == limited

    await run_query(partial(change_share, share_instance, "member", level=ShareLevel.USE))
    assert await names_at(portal, path, "member") == {"alpha"}
    await run_query(partial(change_share, unshare_instance, "member"))
    assert await names_at(portal, path, "member") == set()


def note_requests() -> None:
    for user in User.objects.filter(username__in=["member", "use"]):
        RequestRecord.objects.create(
            request_id=f"request-{user}", finished_at=timezone.now(), user=user, user_name=user.username, path="/v1/x",
            method="POST", status=200, outcome="answered", duration_ms=1, instance_name="alpha",
        )  # fmt: skip
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        HourlyUsage.objects.create(
            hour=hour, user_id=user.pk, user_name=user.username, instance_name="alpha", requests=1
        )


async def test_members_see_their_own_requests_and_use_whatever_is_shared(portal: Portal) -> None:
    await portal.freshen()
    await run_query(note_requests)
    for path in ("/api/v1/activity", "/api/v1/usage?group_by=user"):
        for caller, people in {"use": ['"use"'], "member": ['"member"'], "operator": ['"use"', '"member"']}.items():
            body = (await portal.ask("GET", path, caller)).body.decode()
            assert [name for name in ('"use"', '"member"') if name in body] == people, (path, caller)
