"""Which instance may start now, and which must make room: a pure function of what runs and what is wanted.

Limits count places: an instance holds one from ``starting`` to the end of ``stopping``. A start may need places under
the node's limit and under its group's limit; victims are the least recently used, idle ones first, never pinned ones.
A busy victim is drained, not cut off: it holds its place until its requests are done and admits no newcomers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Limits:
    """Limits of a node; -1 means no limit."""

    max_running: int
    groups: Mapping[str, int]
    eviction: bool


@dataclass(frozen=True)
class Place:
    """An instance that holds a place.

    ``is_reserved``: it was just let in and has not served anyone yet, so it is waited for instead of evicted (otherwise
    two demands could evict each other for ever).
    """

    instance_id: int
    name: str
    group: str
    pinned: bool = False
    is_stopping: bool = False
    is_reserved: bool = False
    in_flight: int = 0
    last_used: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """An instance that wants a place; ``can_evict`` is False when the asker may not push others out."""

    instance_id: int
    name: str
    group: str
    can_evict: bool = True


class Verdict(Enum):
    """What to do with a candidate now."""

    START = "start"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Decision:
    """The verdict, the instances to stop for it (they drain first), and a sentence that says why."""

    verdict: Verdict
    victims: tuple[int, ...] = ()
    reason: str = ""


def decide_admission(candidate: Candidate, places: Collection[Place], limits: Limits) -> Decision:
    """Decide about one candidate against the places held or promised now.

    START when every limit has room. WAIT when room is coming: places are being freed already, a reserved one must
    first serve whom it was started for, or ``victims`` name those to stop now. REFUSE when no stop can make room: the
    limit is 0, eviction is off or not allowed to the asker, or everything that runs is pinned.
    """
    others = [place for place in places if place.instance_id != candidate.instance_id]
    victims: list[Place] = []
    awaited: list[Place] = []
    for scope, limit, sentence in full_scopes(candidate, others, limits):
        staying = [place for place in scope if not place.is_stopping and place not in victims]
        awaited += [place for place in scope if place.is_stopping]
        missing = len(staying) + 1 - limit
        if missing <= 0:
            continue
        evictable = [place for place in staying if not place.pinned and not place.is_reserved]
        reserved = [place for place in staying if not place.pinned and place.is_reserved]
        if limit == 0:
            return Decision(Verdict.REFUSE, reason=f"{sentence}: the limit lets nothing run.")
        if not limits.eviction:
            return Decision(Verdict.REFUSE, reason=f"{sentence}, and eviction is switched off. Stop one first.")
        if not candidate.can_evict:
            return Decision(Verdict.REFUSE, reason=f"{sentence}, and this key may not push out another instance.")
        if len(evictable) + len(reserved) < missing:
            return Decision(Verdict.REFUSE, reason=f"{sentence}, and what runs is pinned. Stop one first.")
        victims += sorted(evictable, key=eviction_order)[:missing]
        awaited += reserved[: max(0, missing - len(evictable))]
    if not victims and not awaited:
        return Decision(Verdict.START)
    names = ", ".join(sorted({place.name for place in victims + awaited}))
    return Decision(
        Verdict.WAIT,
        victims=tuple(place.instance_id for place in victims),
        reason=f"Waiting for room: {names} must finish and stop first.",
    )


def full_scopes(
    candidate: Candidate, others: Collection[Place], limits: Limits
) -> Iterator[tuple[list[Place], int, str]]:
    """Yield the limits without room, the narrowest first: who counts there, the limit, and how to say it."""
    group_limit = limits.groups.get(candidate.group, -1) if candidate.group else -1
    members = [place for place in others if place.group == candidate.group]
    if 0 <= group_limit <= len(members):
        yield (
            members,
            group_limit,
            (f"maximum number of running instances in group {candidate.group} ({group_limit}) reached"),
        )
    if 0 <= limits.max_running <= len(others):
        yield list(others), limits.max_running, f"maximum number of running instances ({limits.max_running}) reached"


def eviction_order(place: Place) -> tuple[bool, float, int]:
    """Sort key: idle before busy, then the least recently used; the id makes ties certain."""
    return place.in_flight > 0, place.last_used, place.instance_id
