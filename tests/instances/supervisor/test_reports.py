"""What the web processes' reports prove, and what they don't."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest

from instances.supervisor.reports import ALIVE_FOR_S, GatewayReports, idle_of, parse_report


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def reports_at(clock: Clock) -> GatewayReports:
    reports = GatewayReports(clock)
    reports.connected(True)
    clock.now += 2
    return reports


STOPPED_AT = 1700000000.123456
LET_GO = b'{"process": "%s", "in_flight": {}, "stopping": {"7": 1700000000.123456}}'


def test_a_stop_waits_for_every_living_web_process_to_let_go() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 0}}')
    reports.accept(b'{"process": "b", "in_flight": {"7": 2}}')
    since = clock.now
    clock.now += 0.1
    reports.accept(LET_GO % b"a")
    assert not reports.is_drained(7, since, STOPPED_AT)
    clock.now += 0.1
    reports.accept(b'{"process": "b", "in_flight": {"7": 2}, "stopping": {"7": 1700000000.123456}}')
    assert not reports.is_drained(7, since, STOPPED_AT)
    reports.accept(LET_GO % b"b")
    assert reports.is_drained(7, since, STOPPED_AT)


def test_a_report_from_before_the_stop_proves_nothing() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {}}')
    assert not reports.is_drained(7, clock.now, STOPPED_AT)


def test_silence_about_an_instance_proves_nothing_as_long_as_older_routes_may_be_on_their_way() -> None:
    """A process that didn't know yet that it was ready may be reading right now that it is."""
    clock = Clock()
    reports = reports_at(clock)
    since = clock.now
    clock.now += 0.1
    reports.accept(b'{"process": "a", "in_flight": {}, "stopping": {}}')
    assert not reports.is_drained(7, since, STOPPED_AT)
    reports.accept(b'{"process": "a", "in_flight": {}, "stopping": {"7": 1600000000.0}}')  # an earlier stop
    assert not reports.is_drained(7, since, STOPPED_AT)
    reports.accept(LET_GO % b"a")
    assert reports.is_drained(7, since, STOPPED_AT)


def test_a_process_that_can_make_no_route_of_the_row_blocks_a_drain_for_some_seconds_only() -> None:
    clock = Clock()
    reports = reports_at(clock)
    since = clock.now
    for _ in range(5):
        reports.accept(b'{"process": "a", "in_flight": {}, "stopping": {}}')
        assert not reports.is_drained(7, since, STOPPED_AT)
        clock.now += 1
    clock.now += 0.1
    reports.accept(b'{"process": "a", "in_flight": {}, "stopping": {}}')
    assert reports.is_drained(7, since, STOPPED_AT)


def test_a_crashed_web_process_blocks_a_drain_no_longer_than_its_heartbeat() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 5}}')
    since = clock.now
    clock.now += 2.9
    assert not reports.is_drained(7, since, STOPPED_AT)
    clock.now += 0.2
    assert reports.is_drained(7, since, STOPPED_AT)


def test_what_a_process_said_before_it_died_does_not_make_it_live_longer() -> None:
    """A supervisor that starts, or finds Redis again, reads the last reports; some are of the dead."""
    clock = Clock()
    reports = reports_at(clock)
    since = clock.now
    reports.accept(b'{"process": "a", "in_flight": {"7": 5}}', age_s=2.5)
    assert not reports.is_drained(7, since, STOPPED_AT)
    clock.now += 0.6
    assert reports.is_drained(7, since, STOPPED_AT)


def test_a_web_process_that_said_good_bye_is_not_waited_for() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 0}}')
    reports.accept(b'{"process": "a", "in_flight": {}, "ended": true}')
    assert reports.is_drained(7, clock.now, STOPPED_AT)


def test_last_use_is_counted_on_the_supervisors_own_clock() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "sent": 5000.5, "in_flight": {"7": 0}, "last_used": {"7": 5000.0}}')
    assert reports.used_at(7) == clock.now - 0.5
    assert reports.used_at(8) == 0.0


def test_waiting_is_counted_on_the_supervisors_own_clock() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "sent": 5000.5, "waiting": {"7": {"count": 1, "since": 4998.5}}}')
    assert [entry.arrived for entry in reports.waiting(7)] == [clock.now - 2.0]


def test_an_instance_is_handed_over_when_every_living_web_process_routes_to_it() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(b'{"process": "a", "in_flight": {"7": 0}}')
    reports.accept(b'{"process": "b", "in_flight": {}}')
    ready_since = clock.now - 0.1
    assert not reports.is_handed_over(7, ready_since)
    reports.accept(b'{"process": "b", "in_flight": {"7": 1}}')
    assert reports.is_handed_over(7, ready_since)
    assert not reports.is_handed_over(7, clock.now + 0.1)


def test_the_end_of_the_last_request_is_news_only_for_an_instance_that_is_waited_for() -> None:
    reports = reports_at(Clock())
    reports.watched = frozenset({7})
    reports.accept(b'{"process": "a", "in_flight": {"7": 1, "8": 0}}')
    assert idle_of(reports) == set()
    reports.accept(b'{"process": "a", "in_flight": {"7": 0, "8": 0}}')
    assert idle_of(reports) == {7}


def test_while_redis_is_away_nothing_counts_as_drained() -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.connected(False)
    assert not reports.is_drained(7, clock.now - 1, STOPPED_AT)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"process": "a", "waiting": {"7": 1}}', b'{"process":"a","in_flight":{"x":1}}']
)
def test_a_malformed_report_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a gateway report"):
        parse_report(data, 0.0)


def test_a_process_of_this_host_that_is_held_up_is_not_dead() -> None:
    """A stopped web process lost its streams to a swap after three silent seconds."""
    program = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        name = f"{socket.gethostname()}-{program.pid}-abcd"
        clock = Clock()
        reports = reports_at(clock)
        reports.accept(json.dumps({"process": name, "in_flight": {"7": 1}}))
        program.send_signal(signal.SIGSTOP)
        clock.now += ALIVE_FOR_S + 1
        assert not reports.is_drained(7, clock.now, STOPPED_AT)
        assert reports.in_flight(7) == 1
    finally:
        program.kill()
        program.wait()
    assert reports.is_drained(7, clock.now, STOPPED_AT)


@pytest.mark.parametrize("name", ["elsewhere.example-1-abcd", f"{socket.gethostname()}-0-x", "no name of ours", ""])
def test_a_silent_process_elsewhere_is_dead_after_three_seconds(name: str) -> None:
    clock = Clock()
    reports = reports_at(clock)
    reports.accept(json.dumps({"process": name, "in_flight": {"7": 1}}))
    clock.now += ALIVE_FOR_S + 1
    assert reports.living() == []
