"""What the gateway asks of the database: stopping instances on somebody's behalf, describing commands, the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from django.db import DatabaseError, close_old_connections

from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.domain.audit import record_change
from accounts.domain.origins import Origin, use_origin
from accounts.enums import AuditSource
from accounts.models import ApiKey, User
from gateway.commands import Action, Caller
from gateway.errors import GatewayError
from gateway.loader import describe_commands
from gateway.structs import Principal
from instances.domain.access import require_level
from instances.domain.lifecycle import stop_instance
from instances.enums import ShareLevel
from instances.errors import InstanceError
from instances.models import Instance

#: Stops wait for requests in flight, so several go on at once.
_STOPS_AT_ONCE = 8


class InstanceCommands:
    """Carries out the gateway's commands in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_STOPS_AT_ONCE, thread_name_prefix="gateway-commands")

    async def stop(self, caller: Caller, instance_ids: Sequence[int]) -> None:
        """Stop these instances and return when they have stopped. Raises GatewayError: 403, 404, 500."""
        loop = asyncio.get_running_loop()
        stops = [loop.run_in_executor(self._threads, stop_for, caller, pk) for pk in instance_ids]
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        """Return the command lines of these instances, secrets masked."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, describe_commands, instance_ids)

    async def note(
        self, caller: Caller, action: Action, instance_id: int, details: Mapping[str, str] | None = None
    ) -> None:
        """Write an audit entry. Raises GatewayError 401 and 503: what can't be recorded is not done."""
        await asyncio.get_running_loop().run_in_executor(self._threads, note_for, caller, action, instance_id, details)


@contextmanager
def act_for(caller: Caller) -> Iterator[Actor]:
    """Do something in this thread as the person or the key that the principal stands for."""
    origin = Origin(AuditSource.API, caller.client_address, caller.request_id)
    close_old_connections()
    try:
        with use_origin(origin):
            yield find_actor(caller.principal)
    finally:
        close_old_connections()


def stop_for(caller: Caller, instance_id: int) -> None:
    """Stop one instance on behalf of the caller."""
    try:
        with act_for(caller) as actor:
            instance = Instance.objects.get(pk=instance_id)
            require_level(actor, instance, ShareLevel.OPERATE)
            stop_instance(actor=actor, instance=instance)
    except Instance.DoesNotExist:
        return  # deleted meanwhile, so it has stopped
    except InstanceError as error:
        raise GatewayError(error.status, error.code, str(error)) from error


def note_for(caller: Caller, action: Action, instance_id: int, details: Mapping[str, str] | None) -> None:
    """Write down what the caller had done to an instance."""
    try:
        with act_for(caller) as actor:
            instance = Instance.objects.filter(pk=instance_id).first()
            record_change(actor=actor, action=f"instance.{action}", target=instance, after=details)
    except DatabaseError as error:
        raise GatewayError(503, "database_unavailable", "The database does not answer; try again.") from error


def find_actor(principal: Principal) -> Actor:
    """Return the actor behind a principal; raise GatewayError 401 when the key or person has gone."""
    if principal.user_id is None:
        return ANONYMOUS
    user = User.objects.filter(pk=principal.user_id, is_active=True).first()
    key = ApiKey.objects.filter(pk=principal.key_id).first() if principal.key_id is not None else None
    if user is None or (principal.key_id is not None and key is None):
        raise GatewayError(401, "invalid_api_key", "Invalid API key")
    return actor_for(user, key)
