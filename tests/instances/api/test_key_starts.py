"""Keys without ``can_start`` start nothing by the management API either, those without ``can_evict`` evict nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from accounts.domain.actors import CORRAL, actor_for
from accounts.domain.keys import create_key
from accounts.enums import KeyKind
from accounts.models import AuditEntry, User
from instances.domain.wishes import want_running
from instances.enums import DesiredState, State
from instances.models import Instance
from tests.conftest import ApiClient
from tests.factories import make_instance, make_node, make_ready


def client_of(user: User, **rights: Any) -> ApiClient:
    return ApiClient(create_key(actor=CORRAL, user=user, name="k", kind=KeyKind.MANAGEMENT, **rights)[1])


@pytest.fixture
def api(admin: User) -> ApiClient:
    """A client whose key may not start; a node that lives, so that only the key stands in the way."""
    make_node(alive=True)
    return client_of(admin, can_start=False)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a supervisor, as none runs here: the wish is left as it was written."""
    monkeypatch.setattr("instances.domain.waiting.REACTION_S", 0.0)
    monkeypatch.setattr("instances.domain.waiting.take_back_start", Mock())


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED, State.BACKOFF])
@pytest.mark.parametrize("action", ["start", "restart"])
def test_a_key_that_may_not_start_starts_nothing(api: ApiClient, action: str, state: str) -> None:
    make_instance("alpha", state=state)
    answer = api("POST", f"instances/alpha/{action}")
    assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
    assert answer.json()["details"].endswith("and this key may not start instances")
    row = Instance.objects.get()
    assert (row.desired_state, row.state, row.generation) == (DesiredState.STOPPED, state, 1)
    assert not AuditEntry.objects.filter(target_type="instance").exists()


def test_it_replaces_no_process_but_may_stop_one_and_start_what_runs(api: ApiClient) -> None:
    make_ready("alpha")
    assert api("POST", "instances/alpha/start").status_code == 200
    assert api("POST", "instances/alpha/restart").status_code == 403
    refused = api("PATCH", "instances/alpha", {"backend_options": {"ctx_size": 1024}})
    assert (refused.status_code, refused.json()["error"]) == (403, "permission_denied")
    assert "ctx_size" not in Instance.objects.get().options["backend_options"]
    assert api("PATCH", "instances/alpha", {"pinned": True}).status_code == 200
    assert api("PATCH", "instances/alpha", {"disabled": True}).status_code == 200
    assert Instance.objects.get().generation == 1
    assert api("PATCH", "instances/alpha", {"backend_options": {"ctx_size": 1024}}).status_code == 200


@pytest.mark.parametrize("query", ["", "?start=true"])
def test_what_it_creates_is_not_started(api: ApiClient, query: str) -> None:
    answer = api("POST", f"instances/beta{query}", {"backend_type": "llama_cpp"})
    assert answer.status_code == 201
    assert "this key may not start instances" in str(answer.json())
    assert Instance.objects.get().desired_state == DesiredState.STOPPED


@pytest.mark.parametrize("action", ["start", "restart"])
@pytest.mark.parametrize("can_evict", [True, False])
def test_a_start_pushes_others_out_only_if_the_key_may(
    admin: User, no_patience: None, action: str, *, can_evict: bool
) -> None:
    make_node(alive=True)
    make_instance("alpha", evicts=not can_evict)
    client_of(admin, can_evict=can_evict)("POST", f"instances/alpha/{action}")
    row = Instance.objects.get()
    assert (row.desired_state, row.evicts) == (DesiredState.RUNNING, can_evict)


def test_who_may_evict_changes_a_start_that_is_queued_without(admin: User, no_patience: None) -> None:
    make_node(alive=True)
    make_instance("alpha", desired_state="running", evicts=False)
    client_of(admin, can_evict=False)("POST", "instances/alpha/start")
    assert not Instance.objects.get().evicts
    client_of(admin)("POST", "instances/alpha/start")
    assert Instance.objects.get().evicts


def test_requests_are_not_bound_by_an_older_start(db: None) -> None:
    pk = make_instance("alpha", evicts=False).pk
    assert want_running(pk, actor="gateway", reason="A request waits for it.")
    assert Instance.objects.get().evicts


def test_a_change_that_replaces_a_process_does_not_evict_for_a_key_that_may_not(admin: User) -> None:
    make_ready("alpha")
    client_of(admin, can_evict=False)("PATCH", "instances/alpha", {"backend_options": {"ctx_size": 1024}})
    row = Instance.objects.get()
    assert (row.generation, row.evicts) == (2, False)


def test_people_are_no_keys(admin: User) -> None:
    assert (actor_for(admin).can_start, actor_for(admin).can_evict) == (True, True)
