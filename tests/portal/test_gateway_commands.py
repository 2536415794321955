"""What the gateway has done for a key: in the audit as that key's doing, from where it was asked."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from accounts.models import ApiKey, AuditEntry, User
from gateway.commands import Caller
from gateway.errors import GatewayError
from gateway.structs import Principal
from instances.enums import State
from portal import gateway_commands
from tests.factories import make_instance, make_key


@pytest.fixture
def caller(admin: User) -> Caller:
    make_key(admin)
    key = ApiKey.objects.get()
    principal = Principal(kind="management", key_id=key.pk, user_id=admin.pk, instances=None)
    return Caller(principal, client_address="192.0.2.7", request_id="ab-1")


@pytest.fixture(autouse=True)
def keep_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's transaction goes on: there is no thread of the gateway's here."""
    monkeypatch.setattr(gateway_commands, "close_old_connections", lambda: None)


def test_an_unload_is_the_keys_doing(caller: Caller) -> None:
    instance = make_instance("alpha", state=State.FAILED)

    gateway_commands.stop_for(caller, instance.pk)

    entry = AuditEntry.objects.get(action="instance.stop")
    assert (entry.target_label, entry.user_name, entry.key_id) == ("alpha", "ada", caller.principal.key_id)
    assert (entry.source, entry.client_address, entry.request_id) == ("api", "192.0.2.7", "ab-1")


def test_a_load_is_the_keys_doing(caller: Caller) -> None:
    instance = make_instance("alpha")

    gateway_commands.note_for(caller, "load_model", instance.pk, {"model": "org/m"})

    entry = AuditEntry.objects.get(action="instance.load_model")
    assert (entry.target_id, entry.key_id, entry.after) == (
        str(instance.pk),
        caller.principal.key_id,
        {"model": "org/m"},
    )


def test_what_cannot_be_recorded_is_refused(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**values: object) -> None:
        raise OperationalError("no")

    monkeypatch.setattr(gateway_commands, "record_change", fail)

    with pytest.raises(GatewayError) as caught:
        gateway_commands.note_for(caller, "load", make_instance("alpha").pk, None)

    assert caught.value.status == 503
