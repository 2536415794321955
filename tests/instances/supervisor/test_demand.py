"""Which requests may start an instance, which instances are idle, and who waits for a place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from instances.enums import DesiredState, State
from instances.models import Instance
from instances.supervisor.demand import find_demand, is_idle, remaining_backoff
from instances.supervisor.preload import choose_preloads
from instances.supervisor.queue import Queue
from instances.supervisor.reports import Waiting

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("restart_in_s", "expected"), [(3, 3.0), (-10, 0.0), (36000, 5.0)], ids=["ahead", "past", "clock set back"]
)
def test_a_clock_jump_never_makes_a_backoff_longer_than_its_delay(restart_in_s: float, expected: float) -> None:
    assert remaining_backoff(NOW + timedelta(seconds=restart_in_s), NOW, 5) == expected


def test_idle_needs_quiet_and_nobody_in_flight_or_waiting() -> None:
    assert is_idle(ttl_s=60, quiet_s=60, in_flight=0, waiting=0)
    assert not is_idle(ttl_s=60, quiet_s=59.9, in_flight=0, waiting=0)
    assert not is_idle(ttl_s=60, quiet_s=61, in_flight=1, waiting=0)
    assert not is_idle(ttl_s=60, quiet_s=61, in_flight=0, waiting=1)


def test_a_time_to_live_of_zero_never_ends() -> None:
    assert not is_idle(ttl_s=0, quiet_s=10**9, in_flight=0, waiting=0)


def test_who_does_not_know_of_the_failure_yet_is_about_to_be_answered_and_starts_nothing() -> None:
    old, new = Waiting(1, since=10.0, seen_change=5.0), Waiting(2, since=30.0, seen_change=20.0)
    assert find_demand([old], changed_at=20.0, refused_at=None) is None
    assert find_demand([old, new], changed_at=20.0, refused_at=None) == new


def test_who_does_not_know_of_the_refusal_yet_is_not_refused_twice() -> None:
    entry = Waiting(1, since=10.0, seen_change=5.0, seen_refusal=None)
    assert find_demand([entry], changed_at=5.0, refused_at=11.0) is None


def test_a_clock_set_back_does_not_silence_demand() -> None:
    entry = Waiting(1, since=1.0, seen_change=9000.0)
    assert find_demand([entry], changed_at=9000.0, refused_at=None) == entry


def test_demand_may_evict_when_any_of_those_who_wait_may() -> None:
    first, second = Waiting(1, since=10.0, can_evict=False), Waiting(1, since=20.0, can_evict=True)
    demand = find_demand([first, second], changed_at=0.0, refused_at=None)
    assert demand == Waiting(1, since=10.0, can_evict=True)


def test_a_key_that_may_not_start_makes_no_demand() -> None:
    assert find_demand([Waiting(1, since=30.0, can_start=False)], changed_at=0.0, refused_at=None) is None


def row(number: int, **fields: object) -> Instance:
    return Instance(pk=number, name=f"m{number}", **{"options": {}, "wanted_at": NOW, **fields})


def test_a_wait_is_as_old_as_the_oldest_that_was_heard_of() -> None:
    queue = Queue()
    queue.note(row(1), 10.0)
    queue.note(row(1), 12.0)
    assert queue.candidate(row(1), 15.0).waited_s == 5.0
    queue.join(1, since=8.0, can_evict=True)
    assert queue.candidate(row(1), 15.0).waited_s == 7.0


def test_a_wish_of_requests_that_may_not_evict_becomes_one_that_may_when_somebody_starts_it() -> None:
    queue = Queue()
    queue.join(1, since=8.0, can_evict=False, by_request=True)
    queue.note(row(1), 9.0)
    assert (queue.candidate(row(1), 9.0).can_evict, queue.is_by_request(1)) == (False, True)
    queue.note(row(1, wanted_at=NOW + timedelta(seconds=1)), 10.0)
    assert (queue.candidate(row(1), 9.0).can_evict, queue.is_by_request(1)) == (True, False)


def test_a_start_by_a_key_that_may_not_evict_evicts_only_when_another_asks_as_well() -> None:
    queue = Queue()
    queue.note(row(1, evicts=False), 9.0)
    assert not queue.candidate(row(1, evicts=False), 9.0).can_evict
    queue.note(row(1, evicts=False, wanted_at=NOW + timedelta(seconds=1)), 9.0)
    assert not queue.candidate(row(1, evicts=False), 9.0).can_evict
    queue.note(row(1, evicts=True, wanted_at=NOW + timedelta(seconds=2)), 9.0)
    assert queue.candidate(row(1), 9.0).can_evict
    queue.note(row(2, evicts=False), 9.0)
    queue.join(2, since=10.0, can_evict=True, by_request=True)
    assert queue.candidate(row(2, evicts=False), 9.0).can_evict


def test_what_began_is_forgotten_with_the_wait() -> None:
    queue = Queue()
    queue.note(row(1), 10.0)
    queue.begin_swap(1)
    assert queue.candidate(row(1), 10.0).has_begun
    queue.keep({1})
    assert queue.candidate(row(1), 10.0).has_begun
    queue.keep({2})
    assert not queue.candidate(row(1), 10.0).has_begun


def test_a_priority_comes_from_the_options() -> None:
    assert Queue().candidate(row(1, options={"priority": 7}), 0.0).priority == 7
    assert Queue().candidate(row(1), 0.0).priority == 0


def test_preloads_are_the_names_in_their_order_then_those_with_the_option() -> None:
    rows = [
        row(1, options={"preload": True}),
        row(2),
        row(3, options={"aliases": ["org/third"]}),
        row(4, options={"preload": True}),
        row(5),
    ]
    assert [one.pk for one in choose_preloads(rows, ["m2", "org/third", "m1", "nobody"])] == [2, 3, 1, 4]


def test_what_is_disabled_or_runs_or_is_wanted_already_is_not_preloaded() -> None:
    rows = [
        row(1, disabled=True),
        row(2, state=State.READY, desired_state=DesiredState.RUNNING),
        row(3, desired_state=DesiredState.RUNNING),
        row(4, state=State.BACKOFF),
        row(5, state=State.FAILED, desired_state=DesiredState.RUNNING),
    ]
    assert [one.pk for one in choose_preloads(rows, ["m1", "m2", "m3", "m4", "m5"])] == [5]
