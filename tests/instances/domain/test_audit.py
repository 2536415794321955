"""What people do with instances is in the audit; what Corral does by itself is not."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.domain.actors import SUPERVISOR, actor_for
from accounts.models import AuditEntry, User
from instances.domain import lifecycle, waiting
from instances.domain.wishes import want_running, want_stopped
from instances.enums import DesiredState, State
from instances.errors import InstanceError, InvalidOptions, NameTaken
from instances.models import Instance
from tests.factories import make_instance, make_node, make_run


def list_actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def test_creating_changing_and_deleting_leave_entries_with_what_changed(operator: User) -> None:
    actor = actor_for(operator)
    options = {"backend_type": "llama_cpp", "backend_options": {"ctx_size": 1024, "api_key": "hush"}}
    instance = lifecycle.create_instance(actor=actor, name="alpha", options=options, start=False).instance
    patch = {"backend_options": {"ctx_size": 2048, "api_key": "other"}, "pinned": True}
    lifecycle.update_instance(actor=actor, instance=instance, options=patch, merge=True)
    pk = instance.pk
    lifecycle.delete_instance(actor=actor, instance=instance)

    made, changed, deleted = AuditEntry.objects.order_by("id")
    assert {entry.user_name for entry in (made, changed, deleted)} == {"olga"}
    assert {entry.target_id for entry in (made, changed, deleted)} == {str(pk)}
    assert made.action == "instance.create"
    assert made.after["owner"] == "olga"
    assert changed.action == "instance.update"
    assert changed.before == {
        "options": {"backend_options": {"ctx_size": 1024, "api_key": "********"}},
        "pinned": False,
    }
    assert changed.after == {"options": {"backend_options": {"ctx_size": 2048, "api_key": "********"}}, "pinned": True}
    assert deleted.action == "instance.delete"
    assert deleted.before["options"]["backend_options"]["ctx_size"] == 2048
    assert deleted.after is None
    assert "hush" not in str(list(AuditEntry.objects.values()))


def test_what_was_refused_leaves_none(admin: User) -> None:
    actor = actor_for(admin)
    instance = make_instance("alpha")

    with pytest.raises(NameTaken):
        lifecycle.create_instance(actor=actor, name="alpha", options={"backend_type": "llama_cpp"}, start=False)
    with pytest.raises(InvalidOptions):
        lifecycle.update_instance(actor=actor, instance=instance, options={"idle_timeout": "x"}, merge=True)

    assert list_actions() == []


def test_starts_stops_and_restarts_leave_entries(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "wait_for_start", lambda row, **_: row)  # no supervisor runs here
    monkeypatch.setattr(waiting, "wait_for_stop", lambda row: row)
    actor = actor_for(admin)
    make_node(alive=True)
    instance = make_instance("alpha")

    lifecycle.start_instance(actor=actor, instance=instance)
    lifecycle.start_instance(actor=actor, instance=instance)  # it is wanted already
    Instance.objects.update(state=State.READY)
    make_run(instance, started_at=timezone.now())
    lifecycle.restart_instance(actor=actor, instance=instance)
    lifecycle.stop_instance(actor=actor, instance=instance)
    lifecycle.stop_instance(actor=actor, instance=instance)  # nobody wants it to run

    assert list_actions() == ["instance.start", "instance.restart", "instance.stop"]


def test_forgetting_a_failure_leaves_an_entry(admin: User) -> None:
    lifecycle.stop_instance(actor=actor_for(admin), instance=make_instance("alpha", state=State.FAILED))

    assert list_actions() == ["instance.stop"]


def test_demand_and_idleness_are_events_of_the_instance_only(db: None) -> None:
    instance = make_instance("alpha")

    assert want_running(instance.pk, actor="gateway", reason="A request waits.")
    assert want_stopped(instance.pk, actor=SUPERVISOR.label, reason="Nobody used it.")

    assert list_actions() == []
    assert instance.events.count() == 2


def test_a_start_that_could_not_even_be_wished_for_leaves_none(admin: User) -> None:
    instance = make_instance("alpha")  # its node is away

    with pytest.raises(InstanceError):
        lifecycle.start_instance(actor=actor_for(admin), instance=instance)

    assert list_actions() == []
    assert Instance.objects.get().desired_state == DesiredState.STOPPED
