"""The choice of who may start and who must make room, on generated nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from instances.domain.admission import (
    MOMENT_S,
    Candidate,
    Decision,
    Limits,
    Place,
    Rules,
    Verdict,
    decide_admission,
    plan_admissions,
)
from instances.domain.groups import Group
from instances.domain.matrix import Matrix, MatrixOptions
from instances.domain.swap_policy import GroupPolicy, MatrixPolicy

GROUPS = ["", "big", "small"]
NEWCOMER = Candidate(1000, "newcomer", "big")
NO_LIMITS = Limits(-1, {}, eviction=True)


def place(number: int, **kwargs: object) -> Place:
    return Place(number, f"m{number}", **{"group": "", **kwargs})  # type: ignore[arg-type]


def decide(candidate: Candidate, places: list[Place], limits: Limits) -> Decision:
    return decide_admission(candidate, places, Rules(limits))


def swapping(candidate: Candidate, places: list[Place], **groups: Group) -> Decision:
    return decide_admission(candidate, places, Rules(NO_LIMITS, GroupPolicy(groups)))


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
    candidate = Candidate(1000, "newcomer", draw(st.sampled_from(GROUPS)), can_evict=draw(st.booleans()))
    return candidate, places, limits


def count_in_scope(candidate: Candidate, places: list[Place], limits: Limits) -> list[tuple[int, int]]:
    """Return (places held, limit) of each limit that concerns the candidate."""
    group_limit = limits.groups.get(candidate.group, -1) if candidate.group else -1
    counts = [(len(places), limits.max_running), (sum(p.group == candidate.group for p in places), group_limit)]
    return [(held, limit) for held, limit in counts if limit >= 0]


def after(decision: Decision, places: list[Place]) -> list[Place]:
    """Return the places once everything that stops has stopped and what is waited for was freed."""
    gone = {*decision.victims, *decision.awaited}
    return [p for p in places if p.instance_id not in gone and not p.is_stopping]


@given(nodes())
def test_it_starts_exactly_when_every_limit_has_room(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    has_room = all(held < limit for held, limit in count_in_scope(candidate, places, limits))
    assert (decide(candidate, places, limits).verdict is Verdict.START) == has_room


@given(nodes())
def test_victims_are_never_pinned_reserved_or_stopping_already(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide(candidate, places, limits)
    chosen = [p for p in places if p.instance_id in decision.victims]
    assert len(chosen) == len(set(decision.victims)) == len(decision.victims)
    assert not any(p.pinned or p.is_reserved or p.is_stopping for p in chosen)


@given(nodes())
def test_waiting_always_ends_in_room(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide(candidate, places, limits)
    if decision.verdict is Verdict.WAIT:
        assert all(held < limit for held, limit in count_in_scope(candidate, after(decision, places), limits))


@given(nodes())
def test_no_victim_could_have_been_spared(node: tuple[Candidate, list[Place], Limits]) -> None:
    candidate, places, limits = node
    decision = decide(candidate, places, limits)
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
    decision = decide(candidate, places, limits)
    if not limits.eviction or not candidate.can_evict or decision.verdict is not Verdict.WAIT:
        assert decision.victims == ()


@given(nodes())
def test_every_verdict_but_start_says_why(node: tuple[Candidate, list[Place], Limits]) -> None:
    decision = decide(*node)
    assert bool(decision.reason) == (decision.verdict is not Verdict.START)


def test_the_least_recently_used_idle_instance_goes_first() -> None:
    places = [place(1, last_used=5.0), place(2, last_used=1.0, in_flight=1), place(3, last_used=3.0)]
    assert decide(NEWCOMER, places, Limits(3, {}, True)).victims == (3,)


def test_a_busy_instance_is_drained_when_no_idle_one_exists() -> None:
    """llamactl 11.2-9: a busy instance was cut off after 30 s."""
    places = [place(1, in_flight=2, last_used=9.0), place(2, in_flight=1, last_used=4.0)]
    decision = decide(NEWCOMER, places, Limits(2, {}, True))
    assert decision.verdict is Verdict.WAIT
    assert decision.victims == (2,)


def test_a_group_limit_evicts_within_the_group_only() -> None:
    places = [place(1, group="small"), place(2, group="big", last_used=9.0)]
    assert decide(NEWCOMER, places, Limits(-1, {"big": 1}, True)).victims == (2,)


def test_one_victim_serves_both_limits() -> None:
    places = [place(1, group="small"), place(2, group="big", last_used=9.0)]
    assert decide(NEWCOMER, places, Limits(2, {"big": 1}, True)).victims == (2,)


def test_a_limit_of_zero_refuses_with_a_sentence() -> None:
    decision = decide(NEWCOMER, [], Limits(0, {}, True))
    assert decision.verdict is Verdict.REFUSE
    assert "maximum number of running instances (0) reached" in decision.reason


def test_switching_eviction_off_refuses_at_the_limit_but_starts_below_it() -> None:
    assert decide(NEWCOMER, [place(1)], Limits(1, {}, False)).verdict is Verdict.REFUSE
    assert decide(NEWCOMER, [place(1)], Limits(2, {}, False)).verdict is Verdict.START


def test_a_second_newcomer_waits_behind_the_first_instead_of_evicting_it() -> None:
    leaving, first = place(1, is_stopping=True), place(2, is_reserved=True)
    decision = decide(NEWCOMER, [leaving, first], Limits(1, {}, True))
    assert decision.verdict is Verdict.WAIT
    assert decision.victims == ()


# Swap groups


def test_a_swap_group_runs_one_member_and_other_groups_give_way() -> None:
    places = [place(1, group="big"), place(2, group="small"), place(3)]
    decision = swapping(NEWCOMER, places, big=Group())
    assert (decision.verdict, decision.victims) == (Verdict.WAIT, (1, 2, 3))


def test_members_of_a_group_without_swap_stay_together() -> None:
    places = [place(1, group="big"), place(2, group="small")]
    assert swapping(NEWCOMER, places, big=Group(swap=False)).victims == (2,)
    assert swapping(NEWCOMER, places, big=Group(swap=False, exclusive=False)).verdict is Verdict.START


def test_a_persistent_group_gives_way_to_its_own_members_alone() -> None:
    places = [place(1, group="small")]
    assert swapping(NEWCOMER, places, big=Group(), small=Group(persistent=True)).verdict is Verdict.START
    own = Candidate(1001, "other", "small")
    assert swapping(own, places, small=Group(persistent=True)).victims == (1,)


def test_a_group_that_is_not_exclusive_stops_not_even_an_exclusive_one() -> None:
    assert swapping(NEWCOMER, [place(1, group="small")], big=Group(exclusive=False), small=Group()).victims == ()


def test_what_no_group_is_named_for_stops_nobody_and_gives_way_to_an_exclusive_group() -> None:
    free = Candidate(1001, "free", "")
    assert swapping(free, [place(1, group="big"), place(2)], big=Group()).verdict is Verdict.START
    assert swapping(NEWCOMER, [place(2)], big=Group()).victims == (2,)


def test_a_pinned_rival_refuses_the_start_and_names_it() -> None:
    decision = swapping(NEWCOMER, [place(1, group="big", pinned=True)], big=Group())
    assert decision.verdict is Verdict.REFUSE
    assert "m1 can't run beside newcomer and is pinned" in decision.reason


def test_a_key_that_may_not_evict_swaps_nobody_out() -> None:
    candidate = Candidate(1000, "newcomer", "big", can_evict=False)
    assert swapping(candidate, [place(1, group="big")], big=Group()).verdict is Verdict.REFUSE


def test_groups_swap_even_where_limits_may_evict_nobody() -> None:
    rules = Rules(Limits(-1, {}, eviction=False), GroupPolicy({"big": Group()}))
    assert decide_admission(NEWCOMER, [place(1, group="big")], rules).victims == (1,)


def test_who_gives_way_to_the_group_makes_room_for_the_limit_too() -> None:
    places = [place(1, group="big", last_used=9.0), place(2, group="small", last_used=1.0)]
    rules = Rules(Limits(2, {"big": 1}, eviction=True), GroupPolicy({"big": Group(exclusive=False)}))
    assert decide_admission(NEWCOMER, places, rules).victims == (1,)


# Patience


def patient(*, waited_s: float, ready_for_s: float, in_flight: int) -> Decision:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group()}), patience_s=2.0)
    candidate = Candidate(1000, "newcomer", "big", waited_s=waited_s)
    return decide_admission(candidate, [place(1, ready_for_s=ready_for_s, in_flight=in_flight)], rules)


def test_an_idle_rival_stops_at_once() -> None:
    assert patient(waited_s=0.0, ready_for_s=0.0, in_flight=0).victims == (1,)


def test_a_busy_rival_serves_on_for_the_patience_and_no_longer() -> None:
    decision = patient(waited_s=0.5, ready_for_s=60.0, in_flight=3)
    assert (decision.victims, decision.awaited, decision.ask_in_s) == ((), (1,), 1.5)
    assert patient(waited_s=2.0, ready_for_s=60.0, in_flight=3).victims == (1,)


def test_a_rival_that_was_loaded_after_the_wait_began_has_its_time_as_well() -> None:
    assert patient(waited_s=60.0, ready_for_s=0.5, in_flight=3).ask_in_s == 1.5


def test_who_waited_in_front_of_the_busy_one_before_is_served_before() -> None:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group()}), patience_s=2.0)
    line = place(1, ready_for_s=60.0, in_flight=3, waiting_for_s=9.0)
    ahead = decide_admission(Candidate(1000, "newcomer", "big", waited_s=8.0), [line], rules)
    behind = decide_admission(Candidate(1000, "newcomer", "big", waited_s=10.0), [line], rules)
    assert (ahead.victims, ahead.ask_in_s, behind.victims) == ((), MOMENT_S, (1,))


# The queue


def plan(candidates: list[Candidate], places: list[Place], rules: Rules) -> dict[str, Decision]:
    return {candidate.name: decision for candidate, decision in plan_admissions(candidates, places, rules)}


def waiting(number: int, **kwargs: object) -> Candidate:
    return Candidate(number, f"c{number}", **{"group": "", **kwargs})  # type: ignore[arg-type]


def test_higher_priorities_go_first_and_equal_ones_by_how_long_they_waited() -> None:
    candidates = [
        waiting(1, waited_s=9.0),
        waiting(2, priority=10, waited_s=1.0),
        waiting(3, priority=10, waited_s=2.0),
    ]
    assert list(plan(candidates, [], Rules(NO_LIMITS))) == ["c3", "c2", "c1"]


def test_a_priority_does_not_overtake_one_for_whom_others_were_stopped() -> None:
    candidates = [waiting(1, priority=10, waited_s=9.0), waiting(2, has_begun=True)]
    assert list(plan(candidates, [], Rules(NO_LIMITS))) == ["c2", "c1"]


def test_who_has_waited_long_enough_goes_before_any_priority() -> None:
    candidates = [waiting(1, priority=10, waited_s=59.0), waiting(2, priority=-5, waited_s=60.0)]
    assert list(plan(candidates, [], Rules(NO_LIMITS, fair_after_s=60.0))) == ["c2", "c1"]


def test_disjoint_groups_that_are_not_exclusive_load_in_parallel() -> None:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group(exclusive=False), "small": Group(exclusive=False)}))
    decisions = plan([waiting(1, group="big"), waiting(2, group="small")], [], rules)
    assert {decision.verdict for decision in decisions.values()} == {Verdict.START}


def test_a_swap_that_waits_does_not_hold_up_one_that_collides_with_nothing() -> None:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group(exclusive=False), "small": Group(exclusive=False)}))
    busy, idle = place(1, group="big", in_flight=1), place(2, group="small")
    decisions = plan([waiting(3, group="big", waited_s=1.0), waiting(4, group="small")], [busy, idle], rules)
    assert [decisions[name].victims for name in ("c3", "c4")] == [(1,), (2,)]


def test_nobody_is_stopped_for_one_whose_turn_comes_later() -> None:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group(exclusive=False), "wide": Group()}))
    places = [place(3, group="big", in_flight=1), place(4)]
    decisions = plan([waiting(1, group="big", waited_s=1.0), waiting(2, group="wide")], places, rules)
    assert decisions["c1"].victims == (3,)
    assert (decisions["c2"].victims, set(decisions["c2"].awaited)) == ((), {1, 3, 4})


def test_who_would_be_stopped_again_at_once_waits_for_the_one_before_it() -> None:
    rules = Rules(NO_LIMITS, GroupPolicy({"big": Group()}))
    decisions = plan([waiting(1, group="big", waited_s=1.0), waiting(2)], [place(3, in_flight=1)], rules)
    assert decisions["c2"].verdict is Verdict.WAIT


# The matrix


def test_a_matrix_stops_the_cheapest_and_leaves_the_pinned_when_another_set_does() -> None:
    options = MatrixOptions(sets={"one": "m1 & newcomer", "two": "m2 & newcomer"})
    rules = Rules(NO_LIMITS, MatrixPolicy(Matrix(options)))
    assert decide_admission(NEWCOMER, [place(1), place(2)], rules).victims == (2,)
    assert decide_admission(NEWCOMER, [place(1), place(2, pinned=True)], rules).victims == (1,)


def test_no_set_is_chosen_for_the_sake_of_what_is_stopping_already() -> None:
    options = MatrixOptions(evict_costs={"m1": 9}, sets={"one": "m1 & newcomer", "two": "m2 & newcomer"})
    rules = Rules(NO_LIMITS, MatrixPolicy(Matrix(options)))
    decision = decide_admission(NEWCOMER, [place(1, is_stopping=True), place(2)], rules)
    assert (decision.victims, decision.awaited) == ((), (1,))


def test_an_instance_in_no_set_runs_alone() -> None:
    rules = Rules(NO_LIMITS, MatrixPolicy(Matrix(MatrixOptions(sets={"one": "m1 & m2"}))))
    assert decide_admission(NEWCOMER, [place(1), place(2)], rules).victims == (1, 2)
