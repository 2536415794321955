"""Start, stop, restart, delete, logs and events, as far as rows tell; processes are for the tests of the whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from instances.enums import DesiredState, State
from instances.models import Instance, InstanceEvent
from tests.conftest import ApiClient
from tests.factories import make_instance, make_node, make_ready


@pytest.mark.parametrize("action", ["start", "restart"])
@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_when_the_node_is_away_a_start_is_refused_at_once_and_no_wish_is_left(
    api: ApiClient, action: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llamactl 11.2-2: every failure of a start was 409 ``max_instances_reached``."""

    def watch(pk: int, seconds: float) -> None:
        pytest.fail("nothing is waited for")

    monkeypatch.setattr("instances.domain.waiting.watch", watch)
    make_instance("alpha", state=state)

    response = api("POST", f"instances/alpha/{action}")

    assert response.status_code == 503
    assert response.json()["error"] == "node_unavailable"
    assert "main" in response.json()["details"]
    assert response.headers["Retry-After"]
    row = Instance.objects.get()
    assert (row.desired_state, row.state, row.generation) == (DesiredState.STOPPED, state, 1)


def test_starting_an_unknown_instance_is_404_as_everything_else_is(api: ApiClient) -> None:
    """llamactl 11.2-2, and contract decision 8: 404 everywhere, with the known code."""
    for method, path in (
        ("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"),
        ("POST", "/restart"), ("GET", "/logs"), ("GET", "/events"),
    ):  # fmt: skip
        response = api(method, f"instances/nobody{path}", {} if method in ("PUT", "PATCH") else None)
        assert response.status_code == 404
        assert response.json() == {"error": "invalid_instance", "details": "instance with name nobody not found"}


def test_starting_what_runs_changes_nothing(api: ApiClient) -> None:
    make_node(alive=True)
    make_ready("alpha")

    response = api("POST", "instances/alpha/start")

    assert response.status_code == 200
    assert response.json()["status"] == "running"
    assert not InstanceEvent.objects.exists()


def test_a_worker_that_does_not_react_is_told_and_the_wish_taken_back(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instances.domain.waiting.REACTION_S", 0.3)
    make_node(alive=True)
    make_instance("alpha")

    response = api("POST", "instances/alpha/start")

    assert response.status_code == 503
    assert Instance.objects.get().desired_state == DesiredState.STOPPED
    assert [event.kind for event in InstanceEvent.objects.order_by("id")] == ["start", "stop"]


def test_starting_what_is_queued_shows_the_real_status_and_keeps_its_place(api: ApiClient) -> None:
    make_node(alive=True)
    since = timezone.now() - timedelta(minutes=1)
    make_instance("alpha", desired_state="running", reason="Waiting for room: b must stop first.", wanted_at=since)

    response = api("POST", "instances/alpha/start")

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["queued"]) == ("stopped", True)
    assert Instance.objects.get().wanted_at == since


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_stopping_needs_no_node_where_there_is_no_process(api: ApiClient, state: State) -> None:
    make_instance("alpha", state=state, desired_state="running", restart_count=2)

    response = api("POST", "instances/alpha/stop")

    assert response.status_code == 200
    assert response.json()["status"] == "stopped"
    row = Instance.objects.get()
    assert (row.state, row.desired_state) == (State.STOPPED, DesiredState.STOPPED)
    assert row.restart_count == (0 if state == State.FAILED else 2)


@pytest.mark.parametrize("state", [State.READY, State.STARTING, State.BACKOFF])
def test_a_stop_is_not_half_wished_when_the_node_is_away(api: ApiClient, state: State) -> None:
    """llamactl 11.2-7: a stop of a restarting instance answered 200 and did nothing."""
    make_instance("alpha", state=state, desired_state="running")

    assert api("POST", "instances/alpha/stop").status_code == 503
    assert Instance.objects.get().desired_state == DesiredState.RUNNING


def test_a_stop_that_outlasts_its_time_is_an_error_of_the_contract(api: ApiClient, change_settings: Any) -> None:
    change_settings(drain_timeout=-4.9, stop_timeout=0)
    make_node(alive=True)
    make_ready("alpha")

    response = api("POST", "instances/alpha/stop")

    assert response.status_code == 500
    assert response.json()["error"] == "stop_failed"
    assert response.json()["details"].startswith("Failed to stop instance: ")


def test_deleting_removes_rows_and_keeps_the_story(api: ApiClient) -> None:
    make_instance("alpha")
    api("PATCH", "instances/alpha", {"group": "g"})

    response = api("DELETE", "instances/alpha")

    assert response.status_code == 204
    assert response.content == b""
    assert not Instance.objects.exists()
    assert [event.kind for event in InstanceEvent.objects.order_by("id")] == ["updated", "deleted"]


@pytest.mark.parametrize("state", [State.STARTING, State.READY, State.STOPPING, State.BACKOFF])
def test_without_force_a_running_instance_is_not_deleted(api: ApiClient, state: State) -> None:
    make_instance("alpha", state=state, desired_state="running")

    response = api("DELETE", "instances/alpha?force=false")

    assert response.status_code == 409
    assert response.json() == {
        "error": "delete_failed",
        "details": "Failed to delete instance: instance with name alpha is still running, stop it before deleting",
    }
    assert Instance.objects.exists()


def test_a_running_instance_of_an_absent_node_can_not_be_deleted(api: ApiClient) -> None:
    make_ready("alpha")

    assert api("DELETE", "instances/alpha").status_code == 503
    assert Instance.objects.get().desired_state == DesiredState.RUNNING


@pytest.fixture
def log() -> Any:
    instance = make_instance("alpha")
    folder = settings.CORRAL.data_dir / "logs" / "alpha"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "1.log"
    streams = ("stdout", "stderr")
    path.write_text("".join(f"2026-11-20T23:39:17.{n:09}Z {streams[n % 2]} F line {n}\n" for n in range(5)))
    yield instance
    path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("lines", ["", "0", "-1", "-99999999999999999999", "99999999999999999"])
def test_all_lines_are_shown_unless_a_number_asks_for_fewer(api: ApiClient, log: Instance, lines: str) -> None:
    """llamactl 11.2-32: logs could not be read until the instance was started again."""
    response = api("GET", f"instances/alpha/logs?lines={lines}")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert [line for line in response.content.decode().splitlines() if line.startswith("line")] == [
        f"line {n}" for n in range(5)
    ]


def test_the_last_lines_and_one_stream_can_be_asked_for(api: ApiClient, log: Instance) -> None:
    assert api("GET", "instances/alpha/logs?lines=2").content.decode().split("\n")[-2:] == ["line 3", "line 4"]
    assert "line 2" not in api("GET", "instances/alpha/logs?stream=stderr").content.decode()


@pytest.mark.parametrize("text", ["abc", "1.5", "1e3", "%00", "१"])
def test_a_number_of_lines_that_is_none_is_told_in_llamactls_words(api: ApiClient, text: str) -> None:
    make_instance("alpha")

    response = api("GET", f"instances/alpha/logs?lines={text}")

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_parameter"
    assert response.json()["details"].startswith("Invalid lines parameter: strconv.Atoi: parsing ")
    assert response.json()["details"].endswith(": invalid syntax")


def test_events_come_newest_first_and_limited(api: ApiClient) -> None:
    make_instance("alpha")
    for group in ("a", "b", "c"):
        api("PATCH", "instances/alpha", {"group": group})

    events = api("GET", "instances/alpha/events").json()

    assert [event["kind"] for event in events] == ["updated"] * 3
    assert events[0]["id"] > events[1]["id"]
    assert events[0]["actor"].startswith("key:")
    assert "(user:ada)" in events[0]["actor"]
    assert len(api("GET", "instances/alpha/events?limit=2").json()) == 2
    assert api("GET", "instances/alpha/events?limit=x").status_code == 400
