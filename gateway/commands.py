"""What the gateway asks the rest of the portal to do: stopping instances, describing their command lines, the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.structs import Principal

Action = Literal["load", "load_model", "unload_model"]
"""What the gateway does itself and the audit keeps."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks for something, and from where."""

    principal: Principal
    client_address: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, exchange: Exchange, principal: Principal) -> Caller:
        """The caller of this request."""
        return cls(principal, exchange.client_host, exchange.request_id)


class Commands(Protocol):
    """Carried out outside of the request path, where the database is."""

    async def stop(self, caller: Caller, instance_ids: Sequence[int]) -> None:
        """Stop these instances on behalf of the caller and return when they have stopped.

        Requests in flight finish first. Raises `GatewayError` 403 for an instance that the principal may not operate,
        and 503 when one can't be stopped in time.
        """

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        """The command lines of these instances, secrets masked."""

    async def note(
        self, caller: Caller, action: Action, instance_id: int, details: Mapping[str, str] | None = None
    ) -> None:
        """Keep in the audit what the caller had done to the instance. Raises `GatewayError` 401 and 503."""


class NoCommands:
    """For a gateway on its own: there's nobody to ask."""

    async def stop(self, caller: Caller, instance_ids: Sequence[int]) -> None:
        """Raise `GatewayError` 501."""
        raise GatewayError(501, "not_supported", "This gateway can't stop instances")

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        """Nothing is known."""
        return {}

    async def note(
        self, caller: Caller, action: Action, instance_id: int, details: Mapping[str, str] | None = None
    ) -> None:
        """Nobody keeps it."""


def require_manager(principal: Principal) -> None:
    """Raise `GatewayError` 403 for a key that may only ask models, not stop them."""
    if principal.kind == "inference":
        message = "permission denied: stopping models needs a management key"
        raise GatewayError(403, "permission_denied", message)
