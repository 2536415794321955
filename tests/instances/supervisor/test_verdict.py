"""What the end of a process means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from instances.enums import DesiredState, State
from instances.supervisor.demand import find_demand, is_idle, remaining_backoff
from instances.supervisor.reports import GatewayReports, Waiting, parse_report
from instances.supervisor.verdict import Ending, judge_exit

OPTIONS = {"auto_restart": True, "max_restarts": 2, "restart_delay": 5}
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def judge(**changes: object) -> Ending:
    facts = {
        "options": OPTIONS,
        "restart_count": 0,
        "was_ready": True,
        "is_wanted": True,
        "exit_code": 1,
        "error": "",
        "could_run": True,
        "tail": [],
    }
    return judge_exit(**{**facts, **changes})  # type: ignore[arg-type]


def test_a_crash_is_restarted_after_the_delay_and_counted() -> None:
    ending = judge(restart_count=1)
    assert (ending.state, ending.restart_count, ending.restart_in_s) == (State.BACKOFF, 2, 5.0)


def test_a_crash_beyond_the_count_fails() -> None:
    assert judge(restart_count=2).state is State.FAILED


def test_zero_restarts_means_never() -> None:
    assert judge(options={**OPTIONS, "max_restarts": 0}).state is State.FAILED


def test_without_auto_restart_a_crash_fails() -> None:
    assert judge(options={**OPTIONS, "auto_restart": False}).state is State.FAILED


def test_exit_code_zero_after_ready_stops_for_good() -> None:
    ending = judge(exit_code=0)
    assert (ending.state, ending.desired_state) == (State.STOPPED, DesiredState.STOPPED)


def test_a_program_that_does_not_exist_is_not_tried_again() -> None:
    ending = judge(was_ready=False, exit_code=None, error="No such file or directory: /no/such", could_run=False)
    assert (ending.state, ending.reason) == (State.FAILED, "No such file or directory: /no/such")


def test_exit_code_zero_before_ready_is_a_failure() -> None:
    assert judge(exit_code=0, was_ready=False).state is State.BACKOFF


def test_an_exit_nobody_minds_just_stops() -> None:
    assert judge(is_wanted=False) == Ending(State.STOPPED)


def test_the_reason_names_the_signal_and_quotes_the_log() -> None:
    reason = judge(exit_code=-11, tail=["loading", "out of memory"]).reason
    assert reason.splitlines() == [
        "The engine was ended by SIGSEGV.",
        "Its last log lines:",
        "loading",
        "out of memory",
    ]


def test_a_long_log_keeps_its_newest_end() -> None:
    reason = judge(tail=["x" * 9000, "the cause"]).reason
    assert reason.endswith("the cause")
    assert len(reason) < 4100


@pytest.mark.parametrize(
    ("restart_in_s", "expected"), [(3, 3.0), (-10, 0.0), (36000, 5.0)], ids=["ahead", "past", "clock set back"]
)
def test_a_clock_jump_never_makes_a_backoff_longer_than_its_delay(restart_in_s: float, expected: float) -> None:
    assert remaining_backoff(NOW + timedelta(seconds=restart_in_s), NOW, 5) == expected


def test_idle_needs_quiet_and_nobody_in_flight_or_waiting() -> None:
    """llamactl 11.2-9: an instance idled out with requests in flight."""
    assert is_idle(idle_timeout_min=1, quiet_s=61, in_flight=0, waiting=0)
    assert not is_idle(idle_timeout_min=1, quiet_s=59, in_flight=0, waiting=0)
    assert not is_idle(idle_timeout_min=1, quiet_s=61, in_flight=1, waiting=0)
    assert not is_idle(idle_timeout_min=1, quiet_s=61, in_flight=0, waiting=1)


def test_an_idle_timeout_of_zero_never_idles_out() -> None:
    assert not is_idle(idle_timeout_min=0, quiet_s=10**9, in_flight=0, waiting=0)


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


def test_a_key_that_may_not_start_makes_no_demand() -> None:
    assert find_demand([Waiting(1, since=30.0, can_start=False)], changed_at=0.0, refused_at=None) is None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def reports_at(clock: Clock) -> GatewayReports:
    reports = GatewayReports(clock)
    reports.connected(True)
    clock.now += 2
    return reports


def test_a_stop_waits_for_every_living_web_process_to_let_go() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 0}}')
    reports.accept(b'{"process": "b", "in_flight": {"7": 2}}')
    since = clock.now
    clock.now += 0.1
    reports.accept(b'{"process": "a", "in_flight": {}}')
    assert not reports.is_drained(7, since)
    clock.now += 0.1
    reports.accept(b'{"process": "b", "in_flight": {}}')
    assert reports.is_drained(7, since)


def test_a_report_from_before_the_stop_proves_nothing() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {}}')
    assert not reports.is_drained(7, since=clock.now)


def test_a_crashed_web_process_blocks_a_drain_no_longer_than_its_heartbeat() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 5}}')
    since = clock.now
    clock.now += 3.1
    assert reports.is_drained(7, since)


def test_while_redis_is_away_nothing_counts_as_drained() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.connected(False)
    assert not reports.is_drained(7, since=clock.now - 1)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"process": "a", "waiting": {"7": 1}}', b'{"process":"a","in_flight":{"x":1}}']
)
def test_a_malformed_report_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a gateway report"):
        parse_report(data, 0.0)
