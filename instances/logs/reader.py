"""Reading an instance's log once, from wherever its node is. Synchronous: for views, tasks and threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from django.conf import settings

from instances.domain.node_tasks import ask_node
from instances.logs.files import MAX_TAIL, Segment, Tail, log_folder, read_tail
from instances.logs.text import RunInfo, format_tail
from instances.models import Instance, Run

READ_LOG_TASK = "instances.read_log"
MAX_REMOTE_TAIL = 4 * 2**20
"""Most bytes of log that travel through Redis for one look."""
ANSWER_WITHIN_S = 10.0


class EncodedTail(TypedDict):
    """A tail as a task's result. JSON holds no bytes, so they travel as Latin-1: a character for each byte."""

    segments: list[tuple[int, int, str]]
    left_out: int


def read_last_lines(instance: Instance, lines: int | None, stream: str | None, timestamps: bool = False) -> str:
    """Return the last lines of an instance's log as text, ``lines`` None or below 1 meaning all that is kept.

    ``stream`` is stdout, stderr or None for both; ``timestamps`` puts the time before each line. An instance that was
    never started has an empty log. At most 16 MiB of log are looked at (4 MiB when the log is on another node); when
    that leaves lines out, the first line says so. Raises LogUnavailable and NodeUnavailable.
    """
    wanted = lines if lines is not None and lines > 0 else None
    tail = read_instance_tail(instance, lines=wanted, stream=stream)
    runs = describe_runs(segment.run_id for segment in tail.segments)
    return format_tail(instance.name, tail, runs, lines=wanted, stream=stream, timestamps=timestamps)


def read_instance_tail(instance: Instance, *, lines: int | None, stream: str | None, max_bytes: int = MAX_TAIL) -> Tail:
    """Return the end of an instance's log from the disk of its node. Raises LogUnavailable and NodeUnavailable."""
    if instance.node.name == settings.CORRAL.node:
        return read_tail(log_folder(instance.name), lines=lines, stream=stream, max_bytes=max_bytes)
    if not instance.runs.exists():
        return Tail([])
    limit = min(max_bytes, MAX_REMOTE_TAIL)
    arguments = {"name": instance.name, "lines": lines, "stream": stream, "max_bytes": limit}
    answer: EncodedTail = ask_node(instance.node, READ_LOG_TASK, timeout_s=ANSWER_WITHIN_S, **arguments)
    segments = [Segment(run_id, start, text.encode("latin-1")) for run_id, start, text in answer["segments"]]
    return Tail(segments, answer["left_out"])


def read_encoded_tail(name: str, lines: int | None, stream: str | None, max_bytes: int) -> EncodedTail:
    """Read a log of this node for another one: the body of the task ``instances.read_log``. Raises LogUnavailable."""
    tail = read_tail(log_folder(name), lines=lines, stream=stream, max_bytes=min(max_bytes, MAX_REMOTE_TAIL))
    segments = [(segment.run_id, segment.start, segment.data.decode("latin-1")) for segment in tail.segments]
    return {"segments": segments, "left_out": tail.left_out}


def describe_runs(run_ids: Iterable[int]) -> dict[int, RunInfo]:
    """Return what is known of these runs, by id; runs whose row is gone are left away."""
    rows = Run.objects.filter(pk__in=list(run_ids)).values_list("pk", "node__name", "started_at", "exited_at")
    return {row[0]: RunInfo(*row) for row in rows}
