"""The choice of who may start and who must make room, on generated nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from instances.domain.admission import Candidate, Decision, Limits, Place, Verdict, decide_admission

GROUPS = ["", "big", "small"]
NEWCOMER = Candidate(1000, "newcomer", "big")


def place(number: int, **kwargs: object) -> Place:
    return Place(number, f"m{number}", **{"group": "", **kwargs})  # type: ignore[arg-type]


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Candidate, list[Place], Limits]:
    places = [
        Place(
            number,
            f"m{number}",
            draw(st.sampled_from(GROUPS)),
            pinned=draw(st.booleans()),
            is_stopping=draw(st.booleans()),
            is_reserved=draw(st.booleans()),
            in_flight=draw(st.integers(0, 2)),
            last_used=draw(st.integers(0, 5)),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    limits = Limits(
        draw(st.integers(-1, 4)),
        {group: draw(st.integers(-1, 3)) for group in draw(st.sets(st.sampled_from(["big", "small"])))},
        draw(st.booleans()),
    )
    candidate = Candidate(1000, "newcomer", draw(st.sampled_from(GROUPS)), draw(st.booleans()))
    return candidate, places, limits


def count_in_scope(candidate: Candidate, places: list[Place], limits: Limits) -> list[tuple[int, int]]:
    """Return (places held, limit) of each limit that concerns the candidate."""
    group_limit = limits.groups.get(candidate.group, -1) if candidate.group else -1
    counts = [(len(places), limits.max_running), (sum(p.group == candidate.group for p in places), group_limit)]
    return [(held, limit) for held, limit in counts if limit >= 0]


def after(decision: Decision, places: list[Place]) -> list[Place]:
    """Return the places once everything that stops has stopped and what is reserved was freed."""
    return [p for p in places if p.instance_id not in decision.victims and not p.is_stopping and not p.is_reserved]


@given(nodes())
def test_it_starts_exactly_when_every_limit_has_room(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    has_room = all(held < limit for held, limit in count_in_scope(candidate, places, limits))
    assert (decide_admission(candidate, places, limits).verdict is Verdict.START) == has_room


@given(nodes())
def test_victims_are_never_pinned_reserved_or_stopping_already(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide_admission(candidate, places, limits)
    chosen = [p for p in places if p.instance_id in decision.victims]
    assert len(chosen) == len(set(decision.victims)) == len(decision.victims)
    assert not any(p.pinned or p.is_reserved or p.is_stopping for p in chosen)


@given(nodes())
def test_waiting_always_ends_in_room(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide_admission(candidate, places, limits)
    if decision.verdict is Verdict.WAIT:
        assert all(held < limit for held, limit in count_in_scope(candidate, after(decision, places), limits))


@given(nodes())
def test_no_victim_could_have_been_spared(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide_admission(candidate, places, limits)
    for spared in decision.victims:
        kept = [
            p
            for p in places
            if not p.is_stopping and (p.instance_id not in decision.victims or p.instance_id == spared)
        ]
        assert any(held >= limit for held, limit in count_in_scope(candidate, kept, limits))


@given(nodes())
def test_nobody_is_evicted_when_eviction_is_off_or_not_allowed(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide_admission(candidate, places, limits)
    if not limits.eviction or not candidate.can_evict or decision.verdict is not Verdict.WAIT:
        assert decision.victims == ()


@given(nodes())
def test_every_verdict_but_start_says_why(node: tuple[Candidate, list[Place], Limits]) -> None:
    decision = decide_admission(*node)
    assert bool(decision.reason) == (decision.verdict is not Verdict.START)


def test_the_least_recently_used_idle_instance_goes_first() -> None:
    places = [place(1, last_used=5.0), place(2, last_used=1.0, in_flight=1), place(3, last_used=3.0)]
    assert decide_admission(NEWCOMER, places, Limits(3, {}, True)).victims == (3,)


def test_a_busy_instance_is_drained_when_no_idle_one_exists() -> None:
    """llamactl 11.2-9: a busy instance was cut off after 30 s."""
    places = [place(1, in_flight=2, last_used=9.0), place(2, in_flight=1, last_used=4.0)]
    decision = decide_admission(NEWCOMER, places, Limits(2, {}, True))
    assert decision.verdict is Verdict.WAIT
    assert decision.victims == (2,)


def test_a_group_limit_evicts_within_the_group_only() -> None:
    places = [place(1, group="small"), place(2, group="big", last_used=9.0)]
    assert decide_admission(NEWCOMER, places, Limits(-1, {"big": 1}, True)).victims == (2,)


def test_one_victim_serves_both_limits() -> None:
    places = [place(1, group="small"), place(2, group="big", last_used=9.0)]
    assert decide_admission(NEWCOMER, places, Limits(2, {"big": 1}, True)).victims == (2,)


def test_a_limit_of_zero_refuses_with_a_sentence() -> None:
    decision = decide_admission(NEWCOMER, [], Limits(0, {}, True))
    assert decision.verdict is Verdict.REFUSE
    assert "maximum number of running instances (0) reached" in decision.reason


def test_switching_eviction_off_refuses_at_the_limit_but_starts_below_it() -> None:
    assert decide_admission(NEWCOMER, [place(1)], Limits(1, {}, False)).verdict is Verdict.REFUSE
    assert decide_admission(NEWCOMER, [place(1)], Limits(2, {}, False)).verdict is Verdict.START


def test_a_second_newcomer_waits_behind_the_first_instead_of_evicting_it() -> None:
    leaving, first = place(1, is_stopping=True), place(2, is_reserved=True)
    decision = decide_admission(NEWCOMER, [leaving, first], Limits(1, {}, True))
    assert decision.verdict is Verdict.WAIT
    assert decision.victims == ()
