"""What a process is doing, and when somebody must hear of it at once."""

from __future__ import annotations

import pytest

from gateway.activity import Activity
from gateway.routes import RouteTable
from gateway.structs import Snapshot
from tests.gateway.harness import make_route

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("is_ready", "is_awaited", "told"),
    [(True, False, 0), (True, True, 1), (False, False, 2), (False, True, 2)],
    ids=["nothing happens", "somebody waits for room", "it is drained", "both"],
)
def test_the_end_of_a_request_is_told_at_once_where_somebody_waits_for_it(
    is_ready: bool, is_awaited: bool, told: int
) -> None:
    routes = RouteTable()
    routes.replace(Snapshot(routes=(make_route(state="ready" if is_ready else "stopping"),)))
    calls: list[None] = []
    activity = Activity(routes, lambda: calls.append(None), lambda: is_awaited)
    for _ in range(2):
        activity.begin(1, counts_as_use=True)
    for _ in range(2):
        activity.end(1, counts_as_use=True)
    assert len(calls) == told
    assert activity.in_flight == {}
