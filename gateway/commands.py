"""What the gateway asks the rest of the portal to do: stopping instances, describing their command lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import GatewayError
from gateway.structs import Principal


class Commands(Protocol):
    """Carried out outside of the request path, where the database is."""

    async def stop(self, principal: Principal, instance_ids: Sequence[int]) -> None:
        """Stop these instances on behalf of the principal and return when they have stopped.

        Requests in flight finish first. Raises `GatewayError` 403 for an instance that the principal may not operate,
        and 503 when one can't be stopped in time.
        """

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        """The command lines of these instances, secrets masked."""


class NoCommands:
    """For a gateway on its own: there's nobody to ask."""

    async def stop(self, principal: Principal, instance_ids: Sequence[int]) -> None:
        """Raise `GatewayError` 501."""
        raise GatewayError(501, "not_supported", "This gateway can't stop instances")

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        """Nothing is known."""
        return {}


def require_manager(principal: Principal) -> None:
    """Raise `GatewayError` 403 for a key that may only ask models, not stop them."""
    if principal.kind == "inference":
        message = "permission denied: stopping models needs a management key"
        raise GatewayError(403, "permission_denied", message)
