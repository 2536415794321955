"""Which instance may start now, and which must make room: a pure function of what runs and what is wanted.

An instance holds a place from ``starting`` to the end of ``stopping``. A start may need places under the node's limit
and under its group's limit, and a swap policy (groups or a matrix) may say whom it can't run beside. Victims of a limit
are the least recently used, idle ones first, never pinned ones. A busy victim is drained, not cut off: it holds its
place until its requests are done and admits no newcomers, once it has had the patience to go on for a while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from instances.domain.swap_policy import ANYTHING_GOES, Member, SwapPolicy

MOMENT_S = 0.5
"""How soon to ask again where no time is known."""


@dataclass(frozen=True)
class Limits:
    """Limits of a node; -1 means no limit. Without ``eviction`` a start that a limit refuses stays refused."""

    max_running: int
    groups: Mapping[str, int]
    eviction: bool


@dataclass(frozen=True)
class Rules:
    """All that a node's places are given by. Times in seconds.

    ``patience_s``: how long a busy instance goes on serving newcomers after another began to wait for its place.
    ``fair_after_s``: who has waited for so long comes before everybody, whatever the priorities.
    """

    limits: Limits
    policy: SwapPolicy = ANYTHING_GOES
    patience_s: float = 0.0
    fair_after_s: float = 60.0


@dataclass(frozen=True)
class Place(Member):
    """An instance that holds a place.

    ``is_reserved``: it was just let in and has not served anyone yet, so it is waited for instead of evicted (otherwise
    two demands could evict each other for ever). ``is_promised``: it is let in as soon as others have left.
    ``ready_for_s``: for how long it has been ready. ``waiting_for_s``: how long the first of those has waited who wait
    for one of its requests to end, 0 when there is nobody.
    """

    is_reserved: bool = False
    is_promised: bool = False
    in_flight: int = 0
    last_used: float = 0.0
    ready_for_s: float = 0.0
    waiting_for_s: float = 0.0


@dataclass(frozen=True)
class Candidate(Member):
    """An instance that wants a place.

    ``can_evict`` is False when whoever asks may not push others out. ``has_begun``: others were stopped for it already.
    """

    can_evict: bool = True
    priority: int = 0
    waited_s: float = 0.0
    has_begun: bool = False


class Verdict(Enum):
    """What to do with a candidate now."""

    START = "start"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Decision:
    """The verdict, and a sentence that says why.

    ``victims`` are to be stopped for it now (they drain first), ``awaited`` are the others it waits for. ``ask_in_s``:
    when a busy instance's patience ends, so that asking again will make a difference; None when time alone won't.
    """

    verdict: Verdict
    victims: tuple[int, ...] = ()
    reason: str = ""
    awaited: tuple[int, ...] = ()
    ask_in_s: float | None = None


@dataclass
class _Room:
    """What is found out about one candidate: whom it evicts, whom it waits for, and all who will be gone then."""

    victims: list[Place] = field(default_factory=list)
    awaited: list[Place] = field(default_factory=list)
    leaving: set[int] = field(default_factory=set)


class _Refused(Exception):
    """No stop can make room; the message says why."""


def plan_admissions(
    candidates: Iterable[Candidate], places: Collection[Place], rules: Rules
) -> Iterator[tuple[Candidate, Decision]]:
    """Decide about all who want in, first come first served, and yield each with its decision.

    Higher priorities come first, equal ones by how long they have waited; whoever others were stopped for already comes
    before all, and so does one who has waited for ``fair_after_s``. A candidate who waits keeps its place against those
    after it, who start beside it or wait as well.
    """
    held = {place.instance_id: place for place in places}
    for candidate in sorted(candidates, key=lambda one: queue_order(one, rules.fair_after_s)):
        decision = decide_admission(candidate, held.values(), rules)
        yield candidate, decision
        if decision.verdict is Verdict.REFUSE:
            continue
        for victim in decision.victims:
            held[victim] = replace(held[victim], is_stopping=True)
        held[candidate.instance_id] = Place(
            candidate.instance_id,
            candidate.name,
            candidate.group,
            pinned=candidate.pinned,
            is_reserved=True,
            is_promised=decision.verdict is Verdict.WAIT,
        )


def queue_order(candidate: Candidate, fair_after_s: float) -> tuple[bool, bool, int, float]:
    """Sort key of those who wait."""
    is_due = candidate.waited_s >= fair_after_s
    return not candidate.has_begun, not is_due, 0 if is_due else -candidate.priority, -candidate.waited_s


def decide_admission(candidate: Candidate, places: Collection[Place], rules: Rules) -> Decision:
    """Decide about one candidate against the places held or promised now.

    START when every limit has room and the policy lets it run beside all others. WAIT when room is coming: places are
    being freed already, a reserved one must first serve whom it was started for, a busy one has patience left, or
    ``victims`` name those to stop now. REFUSE when no stop can make room: the limit is 0, eviction is off or not
    allowed to the asker, or what would have to stop is pinned.
    """
    others = [place for place in places if place.instance_id != candidate.instance_id]
    room = _Room()
    try:
        _make_way(room, candidate, others, rules.policy)
        for scope in full_scopes(candidate, others, rules.limits):
            _make_room(room, candidate, scope, rules.limits)
    except _Refused as refusal:
        return Decision(Verdict.REFUSE, reason=str(refusal))
    if not room.victims and not room.awaited:
        return Decision(Verdict.START)
    # While another's turn comes first, nobody stops for this one.
    others_first = any(not place.is_stopping for place in room.awaited)
    patience = {place.instance_id: remaining_patience(candidate, place, rules.patience_s) for place in room.victims}
    now = tuple(victim for victim, seconds in patience.items() if seconds <= 0 and not others_first)
    later = {victim: seconds for victim, seconds in patience.items() if victim not in now}
    names = ", ".join(sorted({place.name for place in room.victims + room.awaited}))
    return Decision(
        Verdict.WAIT,
        victims=now,
        reason=f"Waiting for room: {names} must finish and stop first.",
        awaited=tuple(dict.fromkeys([*later, *(place.instance_id for place in room.awaited)])),
        ask_in_s=None if others_first else min(later.values(), default=None),
    )


def remaining_patience(candidate: Candidate, place: Place, patience_s: float) -> float:
    """Seconds for which the place's holder still serves newcomers of its own: none when it is idle.

    Counted from when the candidate began to wait, but an instance that was loaded later has its time as well: otherwise
    two that are asked for without pause would take turns with each request. Requests that already waited in front of
    the busy instance when the candidate came are ahead of it: then it is asked again in a moment.
    """
    if not place.in_flight:
        return 0.0
    left = patience_s - min(candidate.waited_s, place.ready_for_s)
    return max(left, MOMENT_S) if place.waiting_for_s > candidate.waited_s else left


def _make_way(room: _Room, candidate: Candidate, others: list[Place], policy: SwapPolicy) -> None:
    """Find who can't stay beside the candidate, and who will not let it stay."""
    room.leaving = set(policy.find_rivals(candidate, others))
    for place in others:
        if place.instance_id not in room.leaving:
            # Who waits since longer and would stop it again goes first.
            if place.is_promised and candidate.instance_id in policy.find_rivals(place, [candidate]):
                room.awaited.append(place)
            continue
        sentence = f"{place.name} can't run beside {candidate.name}"
        if place.is_stopping:
            room.awaited.append(place)
        elif place.pinned:
            raise _Refused(f"{sentence} and is pinned. Stop it first.")
        elif not candidate.can_evict:
            raise _Refused(f"{sentence}, and this start may not push out another instance.")
        else:
            (room.awaited if place.is_reserved else room.victims).append(place)


@dataclass(frozen=True)
class Scope:
    """A limit without room: who counts there, and how to say that it is reached."""

    places: list[Place]
    limit: int
    sentence: str


def _make_room(room: _Room, candidate: Candidate, scope: Scope, limits: Limits) -> None:
    """Find who has to leave for a limit's sake."""
    if scope.limit == 0:
        raise _Refused(f"{scope.sentence}: the limit lets nothing run.")
    stopping = [place for place in scope.places if place.is_stopping]
    staying = [place for place in scope.places if not place.is_stopping and place.instance_id not in room.leaving]
    room.awaited += stopping
    missing = len(staying) + 1 - scope.limit
    if missing <= 0:
        return
    if not limits.eviction:
        raise _Refused(f"{scope.sentence}, and eviction is switched off. Stop one first.")
    if not candidate.can_evict:
        raise _Refused(f"{scope.sentence}, and this start may not push out another instance.")
    evictable = [place for place in staying if not place.pinned and not place.is_reserved]
    reserved = [place for place in staying if not place.pinned and place.is_reserved]
    if len(evictable) + len(reserved) < missing:
        raise _Refused(f"{scope.sentence}, and what runs is pinned. Stop one first.")
    chosen = sorted(evictable, key=eviction_order)[:missing]
    awaited = reserved[: max(0, missing - len(evictable))]
    room.victims += chosen
    room.awaited += awaited
    room.leaving |= {place.instance_id for place in chosen + awaited}


def full_scopes(candidate: Candidate, others: Collection[Place], limits: Limits) -> Iterator[Scope]:
    """Yield the limits without room, the narrowest first."""
    group_limit = limits.groups.get(candidate.group, -1) if candidate.group else -1
    members = [place for place in others if place.group == candidate.group]
    if 0 <= group_limit <= len(members):
        sentence = f"maximum number of running instances in group {candidate.group} ({group_limit}) reached"
        yield Scope(members, group_limit, sentence)
    if 0 <= limits.max_running <= len(others):
        sentence = f"maximum number of running instances ({limits.max_running}) reached"
        yield Scope(list(others), limits.max_running, sentence)


def eviction_order(place: Place) -> tuple[bool, float, int]:
    """Sort key: idle before busy, then the least recently used; the id makes ties certain."""
    return place.in_flight > 0, place.last_used, place.instance_id
