"""The values the gateway decides by. Frozen: a request sees one consistent picture from beginning to end."""

from __future__ import annotations

from typing import Literal

import msgspec

PrincipalKind = Literal["inference", "management", "session", "anonymous"]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what they may use."""

    kind: PrincipalKind
    key_id: int | None = None
    user_id: int | None = None
    instances: frozenset[int] | None = frozenset()
    """Ids of the instances this principal may use; None means all, present and future."""
    expires_at: float | None = None
    """Seconds since the epoch after which the credential is invalid; None means never."""
    can_start: bool = True
    """May start a stopped instance by asking for it."""
    can_evict: bool = True
    """May push another instance out to make room."""

    def may_use(self, instance_id: int) -> bool:
        """Whether this principal may send requests to the instance."""
        return self.instances is None or instance_id in self.instances


ANONYMOUS = Principal(kind="anonymous", instances=None)
"""Everybody, where authentication is switched off."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as the gateway sees it. Times are seconds since the epoch."""

    instance_id: int
    name: str
    backend_type: str
    state: str
    """One of `instances.enums.State`."""
    state_changed_at: float
    host: str = ""
    """Where the process of the current run listens; meaningful when the state is `ready`."""
    port: int = 0
    run_id: int | None = None
    upstream_key: str | None = None
    """The run's own API key; None when the engine takes none."""
    path_prefix: str = ""
    """A path the engine puts before all its own, such as `/llm`; usually empty."""
    is_wanted: bool = True
    """Whether it is meant to run; False once somebody has stopped it."""
    on_demand_start: bool = True
    served_model: str | None = None
    """What replaces `model` in a forwarded body; None leaves the body alone."""
    created: int = 0
    reason: str = ""
    """Why the instance failed, or why a start was refused."""
    refused_at: float | None = None
    """When a start was last refused; None when it never was or has succeeded since."""
    disabled: bool = False

    @property
    def is_routable(self) -> bool:
        """Whether requests may be forwarded now."""
        return self.state == "ready" and not self.disabled


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Every instance at one moment."""

    routes: tuple[Route, ...] = ()
