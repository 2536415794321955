"""What the web processes' reports prove, and what they don't."""

from __future__ import annotations

import pytest

from instances.supervisor.reports import GatewayReports, idle_of, parse_report


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
