"""The gateway's only view of the database. Called in worker threads; everything it returns is plain values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import close_old_connections
from django.db.models import FilteredRelation, Q

from accounts.domain.quotas import count_used, find_limits
from accounts.domain.windows import find_window
from accounts.enums import PermissionMode
from accounts.models import ApiKey, User
from gateway.structs import Principal, PrincipalKind, Quota, Route, Snapshot
from instances.backends.registry import get_backend
from instances.domain.preview import describe_command_in_one_line
from instances.domain.runs import derive_upstream_key
from instances.domain.serving import effective_ttl_s
from instances.enums import DesiredState, State
from instances.errors import InvalidOptions
from instances.models import Instance, KeyPermission

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_COLUMNS = (
    "id",
    "name",
    "backend_type",
    "options",
    "desired_state",
    "state",
    "state_changed_at",
    "created_at",
    "reason",
    "refused_at",
    "disabled",
    "active_run__id",
    "active_run__port",
    "active_run__token",
    "active_run__child_pid",
)


def _with_own_connection(function: Callable[P, T]) -> Callable[P, T]:
    """Close what is stale before and after: no request of Django's does it for these threads."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return run


@_with_own_connection
def load_snapshot() -> Snapshot:
    """Every instance with its active run, by name; one query, so that state and run belong together.

    Raises `django.db.DatabaseError` when the database can't be read.
    """
    active_run = FilteredRelation("runs", condition=Q(runs__exited_at__isnull=True))
    rows = Instance.objects.annotate(active_run=active_run).order_by("name").values(*_COLUMNS)
    return Snapshot(routes=tuple(route for row in rows if (route := _try_route(row)) is not None))


@_with_own_connection
def describe_commands(instance_ids: Iterable[int]) -> dict[int, str]:
    """The command lines of these instances' next starts, each in one line with its secrets masked, by id.

    Empty for options that lead to no command; without an entry for an id that is gone. Not part of a snapshot, since
    one costs more than all the rest of its route. Raises `django.db.DatabaseError`.
    """
    rows = Instance.objects.filter(pk__in=list(instance_ids)).select_related("node")
    return {row.pk: _try_command(row) for row in rows}


def _try_command(row: Instance) -> str:
    try:
        return describe_command_in_one_line(row)
    except (InvalidOptions, KeyError, ValueError, TypeError, AttributeError) as error:
        logger.warning("Instance %s has no command: %s: %s", row.name, type(error).__name__, error)
        return ""


@_with_own_connection
def find_principal(key_hash: str) -> Principal | None:
    """The principal of the key with this SHA-256 (hex), or None.

    None also for a revoked or expired key, and for one whose owner is inactive.
    A key never exceeds its owner: operators' keys open every instance, others what their owner may see; a key of mode
    `per_instance` only those of its list. Raises `django.db.DatabaseError`.
    """
    key = ApiKey.objects.usable().with_secret(key_hash).select_related("user").first()
    if key is None:
        return None
    ends = [key.expires_at] if key.key_hash == key_hash else [key.expires_at, key.former_ends_at]
    kind: PrincipalKind = "management" if key.kind == "management" else "inference"
    return Principal(
        kind=kind,
        key_id=key.pk,
        user_id=key.user_id,
        key_name=str(key),
        user_name=key.user.get_username(),
        instances=_find_usable_instances(key),
        expires_at=min((end.timestamp() for end in ends if end is not None), default=None),
        can_start=key.can_start,
        can_evict=key.can_evict,
        quotas=find_quotas(key.user, key),
    )


def find_quotas(user: User, key: ApiKey | None = None) -> tuple[Quota, ...]:
    """What limits a person's requests, with a key or from a page. Raises `django.db.DatabaseError`."""
    return tuple(
        Quota(
            counter=limit.counter,
            unit=limit.unit,
            window=limit.window,
            limit=limit.limit,
            whose=limit.whose,
        )
        for limit in find_limits(user, key)
    )


class RecordedUse:
    """What quotas need of the calendar and the database (`gateway.quotas.QuotaSource`)."""

    def find_window(self, window: str, moment: float) -> tuple[float, float]:
        """When the window around a moment begins and ends, in seconds since the epoch."""
        return find_window(window, moment)

    @staticmethod
    @_with_own_connection
    def count_used(counters: Mapping[str, float]) -> dict[str, int]:
        """What each counter stands at since its window began. Raises `django.db.DatabaseError`."""
        return count_used(counters)


def _find_usable_instances(key: ApiKey) -> frozenset[int] | None:
    usable: frozenset[int] | None = None
    if not key.user.is_operator:
        usable = frozenset(Instance.objects.visible_to(key.user).values_list("id", flat=True))
    if key.permission_mode == PermissionMode.PER_INSTANCE:
        listed = frozenset(KeyPermission.objects.filter(api_key=key).values_list("instance_id", flat=True))
        usable = listed if usable is None else usable & listed
    return usable


def _try_route(row: Mapping[str, Any]) -> Route | None:
    """The route of a row; None, with a line in the log, for a row no route can be made of.

    One such row (an engine that this version doesn't know, options edited by hand) must not freeze all the others.
    """
    try:
        return _build_route(row)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        logger.warning("Instance %s has no route: %s: %s", row["name"], type(error).__name__, error)
        return None


def _build_route(row: Mapping[str, Any]) -> Route:
    backend = get_backend(row["backend_type"])
    options = row["options"]
    engine_options = options.get("backend_options") or {}
    is_ready = row["state"] == State.READY and row["active_run__id"] is not None
    return Route(
        instance_id=row["id"],
        name=row["name"],
        backend_type=row["backend_type"],
        # A ready instance without a run has just lost it; there's nowhere to send a request.
        state=row["state"] if is_ready or row["state"] != State.READY else State.STOPPING.value,
        state_changed_at=row["state_changed_at"].timestamp(),
        host=backend.upstream_host(engine_options) if is_ready else "",
        port=row["active_run__port"] if is_ready else 0,
        run_id=row["active_run__id"],
        upstream_key=derive_upstream_key(row["active_run__token"]) if is_ready else None,
        path_prefix=backend.upstream_prefix(engine_options),
        is_wanted=row["desired_state"] == DesiredState.RUNNING,
        on_demand_start=options.get("on_demand_start", settings.CORRAL.default_on_demand_start),
        aliases=tuple(options.get("aliases", ())),
        served_model=options.get("use_model_name") or backend.served_model(engine_options),
        concurrency_limit=options.get("concurrency_limit", 0),
        queue_limit=options.get("queue_limit", 0),
        queue_timeout_s=options.get("queue_timeout", 0),
        connect_timeout_s=options.get("connect_timeout", 0),
        first_byte_timeout_s=options.get("first_byte_timeout", 0),
        idle_timeout_s=options.get("idle_stream_timeout", 0),
        sends_loading_state=options.get("send_loading_state", settings.CORRAL.send_loading_state),
        unlisted=options.get("unlisted", False),
        ttl_s=effective_ttl_s(options),
        child_pid=row["active_run__child_pid"],
        created=int(row["created_at"].timestamp()),
        reason=row["reason"],
        refused_at=_to_epoch(row["refused_at"]),
        disabled=row["disabled"],
    )


def _to_epoch(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
