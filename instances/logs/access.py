"""Who may follow which log, and from where: everything about a log request that needs the database. Synchronous."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from accounts.authentication import find_presented_key, note_use
from accounts.credentials import PresentedKeys, read_keys
from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.enums import KeyKind
from accounts.models import User
from instances.domain.access import require_level, visible_instances
from instances.enums import ShareLevel
from instances.errors import InstanceNotFound, NodeUnavailable
from instances.logs.errors import InvalidLogParameter, LogUnavailable, NotAuthenticated, WrongKey
from instances.logs.files import Segment, log_folder
from instances.logs.reader import describe_runs, read_instance_tail
from instances.logs.records import STREAMS, Cursor, InvalidCursor
from instances.logs.text import RunInfo
from instances.models import Instance

DEFAULT_LINES = 100
MAX_BACKLOG = 4 * 2**20
"""Most bytes of older log that a follower is given first."""

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True)
class Credentials:
    """What a request brings to prove who it is; an empty session where it brings none."""

    keys: PresentedKeys = field(repr=False)
    session: str = field(repr=False)

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> Credentials:
        """Read them from an ASGI scope."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            cookies.clear()
        session = cookies.get(settings.SESSION_COOKIE_NAME)
        keys = read_keys(scope["headers"], scope["query_string"])
        return cls(keys, session.value if session else "")


@dataclass(frozen=True)
class LogQuery:
    """The parameters of a log request."""

    lines: int = DEFAULT_LINES
    """Older lines given first; 0: none, below 0: all that is kept, up to 4 MiB."""
    stream: str | None = None
    timestamps: bool = False
    cursor: Cursor | None = None
    """Where to go on; wins over ``lines``."""
    max_bytes: int = MAX_BACKLOG
    """Most bytes of older log, whatever ``lines`` says."""

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> LogQuery:
        """Read the query ``lines``, ``stream``, ``timestamps``, ``cursor``. Raises InvalidLogParameter naming one."""
        lines = values.get("lines", "") or str(DEFAULT_LINES)
        if not (lines.removeprefix("-").isdecimal() and lines.isascii() and len(lines) < 12):
            raise InvalidLogParameter(f"Invalid lines parameter: {lines[:50]!r} is not a whole number.")
        stream = values.get("stream", "") or None
        if stream not in (None, *STREAMS):
            raise InvalidLogParameter("Invalid stream parameter: use stdout or stderr, or leave it out for both.")
        try:
            cursor = Cursor.parse(values["cursor"]) if values.get("cursor") else None
        except InvalidCursor as error:
            raise InvalidLogParameter(f"Invalid cursor parameter: {error}") from None
        return cls(int(lines), stream, values.get("timestamps", "").lower() in TRUE_WORDS, cursor)


@dataclass(frozen=True)
class LogAccess:
    """Leave to follow an instance's log, and where that begins: at a place in a run, or behind a backlog."""

    instance_id: int
    folder: Path
    runs: dict[int, RunInfo]
    begin: Cursor | None = None
    backlog: list[Segment] = field(default_factory=list)


def read_query(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the query parameters of an ASGI scope; of repeated ones the last."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def find_actor(credentials: Credentials) -> Actor:
    """Return who asks. A wrong key is refused even beside a good session, as the management API does it.

    Raises NotAuthenticated, which is a WrongKey where the key is nobody's.
    """
    presented = credentials.keys
    key = find_presented_key(presented)
    if key is not None and key.kind == KeyKind.MANAGEMENT:
        note_use(key)
        return actor_for(key.user, key)
    if key is None and presented.key is None:
        user = find_signed_in(credentials.session)
        if user is not None:
            return actor_for(user)
        if not settings.CORRAL.require_management_auth:
            return ANONYMOUS
    if key is None and any(presented):
        raise WrongKey("Invalid API key")
    raise NotAuthenticated("Missing API key" if key is None else "Invalid API key")


def find_signed_in(session: str) -> User | None:
    """Return the active person whose session this is."""
    if not session:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(session)
    user = get_user(cast("HttpRequest", SimpleNamespace(session=store)))
    return user if isinstance(user, User) and user.is_active else None


def find_readable(actor: Actor, **where: object) -> Instance:
    """Return the instance whose log the actor may read, as the REST endpoint decides it too.

    What users ask engines may stand in their logs, so seeing an instance is not enough: it takes the right to operate
    it. Raises InstanceNotFound or PermissionDenied.
    """
    instance = visible_instances(actor).filter(**where).first()
    if instance is None:
        raise InstanceNotFound("Instance not found")
    require_level(actor, instance, ShareLevel.OPERATE)
    return instance


def check_access(credentials: Credentials, instance_id: int) -> None:
    """Raise NotAuthenticated, InstanceNotFound or PermissionDenied when the log may not be followed any longer.

    Not for an instance that was deleted: its log ends by itself.
    """
    actor = find_actor(credentials)
    try:
        find_readable(actor, pk=instance_id)
    except InstanceNotFound:
        if Instance.objects.filter(pk=instance_id).exists():
            raise


def list_visible_ids(credentials: Credentials) -> frozenset[int]:
    """Return the ids of the instances whose events may be seen. Raises NotAuthenticated."""
    return frozenset(visible_instances(find_actor(credentials)).values_list("pk", flat=True))


def open_log(credentials: Credentials, name: str, query: LogQuery) -> LogAccess:
    """Check that the log may be followed and find where to begin.

    A cursor of a run that is not this instance's (or was deleted) counts as none. Raises NotAuthenticated,
    InstanceNotFound, PermissionDenied and LogUnavailable (only for a log on this node; one elsewhere is followed
    without its older lines when its node does not answer).
    """
    return begin_log(find_readable(find_actor(credentials), name=name), query)


def begin_log(instance: Instance, query: LogQuery) -> LogAccess:
    """Find where to begin with a log that may be followed. Raises LogUnavailable as `open_log` does."""
    folder = log_folder(instance.name)
    if query.cursor and instance.runs.filter(pk=query.cursor.run_id).exists():
        return LogAccess(instance.pk, folder, describe_runs([query.cursor.run_id]), query.cursor)
    backlog = _read_backlog(instance, query)
    runs = describe_runs(segment.run_id for segment in backlog)
    backlog = [segment for segment in backlog if segment.run_id in runs]
    newest = instance.runs.order_by("-pk").values_list("pk", flat=True).first()
    if backlog or newest is None:
        return LogAccess(instance.pk, folder, runs, backlog=backlog)
    return LogAccess(instance.pk, folder, describe_runs([newest]), Cursor(newest, 0))


def _read_backlog(instance: Instance, query: LogQuery) -> list[Segment]:
    lines = None if query.lines < 0 else max(query.lines, 1)
    try:
        tail = read_instance_tail(instance, lines=lines, stream=query.stream, max_bytes=query.max_bytes)
    except (LogUnavailable, NodeUnavailable):
        if instance.node.name == settings.CORRAL.node:
            raise
        return []
    segments: Iterable[Segment] = tail.segments
    if query.lines == 0:
        segments = (Segment(segment.run_id, segment.end, b"") for segment in tail.segments[-1:])
    return list(segments)
