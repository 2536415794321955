"""The values the gateway decides by. Frozen: a request sees one consistent picture from beginning to end."""

from __future__ import annotations

from typing import Literal

import msgspec

PrincipalKind = Literal["inference", "management", "session", "anonymous"]


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of somebody's use."""

    counter: str
    """What is counted, shared by all whom the limit concerns: `user:5:requests:day`."""
    unit: Literal["requests", "tokens"]
    window: Literal["minute", "day", "month"]
    limit: int
    whose: str
    """Whose limit it is, for the one it stops: `this key`, `your account`, `the team research`."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what they may use."""

    kind: PrincipalKind
    key_id: int | None = None
    user_id: int | None = None
    key_name: str = ""
    """With its first characters, as the activity shows it; both names are kept for when the rows are gone."""
    user_name: str = ""
    instances: frozenset[int] | None = frozenset()
    """Ids of the instances this principal may use; None means all, present and future."""
    expires_at: float | None = None
    """Seconds since the epoch after which the credential is invalid; None means never."""
    can_start: bool = True
    """May start a stopped instance by asking for it."""
    can_evict: bool = True
    """May push another instance out to make room."""
    quotas: tuple[Quota, ...] = ()
    """What limits its use; usually nothing."""

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
    aliases: tuple[str, ...] = ()
    """Other names for the same model; no other instance has one of them as its name or alias."""
    served_model: str | None = None
    """What replaces `model` in a forwarded body; None leaves the body alone. The option `use_model_name` wins over what
    the engine itself asks for."""
    concurrency_limit: int = 0
    """How many requests may be in work at once; 0 means no limit."""
    queue_limit: int = 0
    """How many requests may wait for the instance; 0 means the setting CORRAL_QUEUE_LIMIT."""
    queue_timeout_s: int = 0
    """How long a request may wait; 0 means the setting CORRAL_ON_DEMAND_START_TIMEOUT."""
    connect_timeout_s: int = 0
    """How long a connection to the engine may take to open; 0 means the gateway's default (5 s)."""
    first_byte_timeout_s: int = 0
    """How long the engine may take until its answer begins, counted from the end of the request; 0 means for ever."""
    idle_timeout_s: int = 0
    """How long an answer that has begun may pause; 0 means for ever."""
    sends_loading_state: bool = False
    """Whether a streaming chat that waits for a start is told so in the stream."""
    unlisted: bool = False
    """Left out of lists of models; requests reach it all the same."""
    ttl_s: int = 0
    """Seconds without a request after which the instance stops (options `ttl` and `idle_timeout`); 0 means never."""
    child_pid: int | None = None
    """Process id of the current run's engine; None when there is none or it isn't known yet."""
    command: str = ""
    """The engine's command line with its secrets masked, for display. Empty in a snapshot: telling it is dear, so
    `gateway.loader.describe_commands` does it on demand."""
    description: str = ""
    """A sentence about the model for lists; empty when there is none."""
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

    @property
    def is_queued(self) -> bool:
        """Whether it is to start and can't yet; then `reason` says what it waits for."""
        return self.state == "stopped" and self.is_wanted


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Every instance at one moment."""

    routes: tuple[Route, ...] = ()
