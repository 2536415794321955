"""The logs of llama-swap's ``/logs/stream/{id}``: finding a model's, and the output of all running instances.

Everything about them that needs the database. Synchronous.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import itemgetter

from django.db.models import Q
from django.utils import timezone

from accounts.domain.actors import Actor
from instances.domain.access import LEVELS, levels_of, visible_instances
from instances.domain.names import ALIAS_LENGTH
from instances.enums import ShareLevel
from instances.errors import NodeUnavailable
from instances.logs.access import Credentials, LogAccess, LogQuery, begin_log, find_actor, find_readable
from instances.logs.errors import LogUnavailable, UnknownLogger
from instances.logs.files import Segment, log_folder
from instances.logs.reader import read_instance_tail
from instances.logs.records import Cursor, Decoder, join_pieces
from instances.logs.text import HISTORY_BYTES, RunInfo, cut_history
from instances.models import Instance, InstanceAlias, Run

logger = logging.getLogger(__name__)

RECORD_BYTES = 4 * HISTORY_BYTES
"""Bytes of records that are read for the history of one instance: each line has a time and more before it."""
RECENT = timedelta(minutes=1)
"""How long a run that has ended is listed, for those who did not look while it lived."""


@dataclass(frozen=True)
class FoundRun:
    """A run that lives or has lived a moment ago, of an instance whose log the caller may read."""

    instance: Instance
    run: RunInfo

    def begin_at(self, offset: int) -> LogAccess:
        """Return leave to follow the instance's log from this place in the run."""
        runs, folder = {self.run.id: self.run}, log_folder(self.instance.name)
        return LogAccess(self.instance.pk, folder, runs, Cursor(self.run.id, offset))


@dataclass(frozen=True)
class Found:
    """What one look at the database found."""

    runs: list[FoundRun]
    """By age, the oldest first."""
    readable: frozenset[int]
    """Ids of the instances asked about whose logs the caller may read."""


def open_model_log(credentials: Credentials, path: str, *, with_history: bool) -> tuple[LogAccess, list[Segment]]:
    """Return leave to follow a model's log behind what is there now, and the older records wanted before it.

    Raises NotAuthenticated, UnknownLogger, PermissionDenied and LogUnavailable.
    """
    actor = find_actor(credentials)
    instance = find_readable(actor, pk=find_by_path(actor, path).pk)
    access = begin_log(instance, LogQuery(lines=-1 if with_history else 0, max_bytes=RECORD_BYTES))
    if not access.backlog:
        return access, []
    last = access.backlog[-1]
    return replace(access, begin=Cursor(last.run_id, last.end), backlog=[]), access.backlog


def find_by_path(actor: Actor, path: str) -> Instance:
    """Return the visible instance whose name or alias is the longest beginning of the path, cut at slashes.

    Raises UnknownLogger.
    """
    names = [path[:end] for end in range(1, min(len(path), ALIAS_LENGTH) + 1) if path[end : end + 1] in ("", "/")]
    names = [name for name in names if name.isprintable()]
    aliases = InstanceAlias.objects.filter(alias__in=names).values_list("alias", "instance_id")
    by_alias = dict(aliases)
    candidates = visible_instances(actor).filter(Q(name__in=names) | Q(pk__in=by_alias.values()))
    found = {instance.pk: instance for instance in candidates}
    by_name = {instance.name: instance.pk for instance in found.values()}
    for name in reversed(names):
        pk = by_name.get(name, by_alias.get(name))
        if pk in found:
            return found[pk]
    raise UnknownLogger("invalid logger. Use 'proxy', 'upstream' or a model's ID")


def find_runs(credentials: Credentials, followed: Iterable[int] = ()) -> Found:
    """Return the runs whose output the caller may read, and which of the followed instances they still may read.

    Raises NotAuthenticated.
    """
    actor = find_actor(credentials)
    recent = Run.objects.filter(Q(exited_at=None) | Q(exited_at__gt=timezone.now() - RECENT)).order_by("pk")
    rows = list(recent.values_list("instance_id", "pk", "node__name", "started_at", "exited_at"))
    instances = list(visible_instances(actor).filter(pk__in={row[0] for row in rows} | set(followed)))
    levels = levels_of(actor, instances)
    readable = {instance.pk: instance for instance in instances if _may_read(levels[instance.pk])}
    runs = [FoundRun(readable[row[0]], RunInfo(*row[1:])) for row in rows if row[0] in readable]
    return Found(runs, frozenset(readable))


def open_upstream(credentials: Credentials, *, with_history: bool) -> tuple[Found, dict[int, LogAccess], str]:
    """Return what there is, leave to follow the live runs behind their present ends, by instance, and the history.

    The history is the newest lines of all live ones by their times; one on a node that does not answer adds nothing.
    Raises NotAuthenticated.
    """
    found = find_runs(credentials)
    beginnings: dict[int, LogAccess] = {}
    history: list[tuple[str, str]] = []
    silent: set[str] = set()
    for live in found.runs:
        if live.run.exited_at is None:
            segments = _read_end(live, None if with_history else 1, silent)
            beginnings[live.instance.pk] = live.begin_at(segments[-1].end if segments else 0)
            if with_history:
                history = _keep_newest(list(heapq.merge(history, _read_lines(segments), key=itemgetter(0))))
    return found, beginnings, cut_history("".join(text for _, text in history))


def begin_newly_found(found: FoundRun) -> LogAccess:
    """Return leave to follow a run that was not known: from its start, if that was a moment ago, or from now on."""
    started = found.run.started_at
    if started is None or started > timezone.now() - RECENT:
        return found.begin_at(0)
    segments = _read_end(found, 1, set())
    return found.begin_at(segments[-1].end if segments else 0)


def _read_end(found: FoundRun, lines: int | None, silent: set[str]) -> list[Segment]:
    """Return the last records of a run; none when they can't be read. Nodes that don't answer are noted as silent."""
    if found.run.node in silent:
        return []
    try:
        tail = read_instance_tail(found.instance, lines=lines, stream=None, max_bytes=RECORD_BYTES)
    except NodeUnavailable:
        silent.add(found.run.node)
        return []
    except LogUnavailable as error:
        logger.warning("no older lines of %s: %s", found.instance.name, error)
        return []
    return [segment for segment in tail.segments if segment.run_id == found.run.id]


def _may_read(level: ShareLevel | None) -> bool:
    return level is not None and LEVELS.index(level) >= LEVELS.index(ShareLevel.OPERATE)


def _read_lines(segments: list[Segment]) -> Iterator[tuple[str, str]]:
    """Yield times, which never go back, and lines with their ends."""
    time = ""
    for segment in segments:
        for line in join_pieces(Decoder().decode(segment.data)):
            time = max(time, line.time)
            yield time, f"{line.text}\n"


def _keep_newest(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    size = 0
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index][1])
        if size > HISTORY_BYTES:
            return lines[index:]
    return lines
