"""Django's admin site: every model can be looked at, no secret is shown, and actions go through the domain."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin as site
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, HourlyUsage, Invitation, Quota, RequestRecord, Team, User, UserSession
from instances.enums import DesiredState, State
from instances.models import Instance, InstanceAlias, InstanceEvent, InstanceShare, KeyPermission, Node, Run
from tests.factories import make_instance, make_key, make_ready

MODELS = [model for label in ("accounts", "instances") for model in apps.get_app_config(label).get_models()]


@pytest.fixture
def client(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def rows(admin: User) -> None:
    make_key(admin)
    options = {"backend_options": {"api_key": "hush"}, "environment": {"HF_TOKEN": "hush"}}
    instance = make_ready("alpha", options=options)
    InstanceShare.objects.create(instance=instance, user=admin)
    InstanceAlias.objects.create(instance=instance, alias="other")
    KeyPermission.objects.create(api_key=ApiKey.objects.get(), instance=instance)
    InstanceEvent.objects.create(instance=instance, instance_name="alpha", kind="created", actor="user:ada")
    now = timezone.now()
    RequestRecord.objects.create(finished_at=now, path="/v1/x", method="POST", status=200, duration_ms=1)
    HourlyUsage.objects.create(hour=now, requests=1)
    AuditEntry.objects.create(actor="user:ada", source="page", action="instance.create")
    team = Team.objects.create(group=Group.objects.create(name="red"))
    Invitation.objects.create(token_hash="hush", team=team, expires_at=now)
    UserSession.objects.create(user=admin, session_key="hush")
    Quota.objects.create(user=admin, unit="requests", window="day", limit=5)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_has_a_list_and_a_page_without_secrets(client: Client, rows: None, model: type) -> None:
    assert site.site.is_registered(model)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    pk = model.objects.order_by("pk").first().pk
    secrets = [ApiKey.objects.get().key_hash, Run.objects.get().token, "hush"]

    for url in (reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[pk])):
        response = client.get(url)
        assert response.status_code == 200
        text = response.content.decode()
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("model", [Instance, Run, Node, InstanceEvent, RequestRecord, HourlyUsage, AuditEntry, Quota])
def test_what_corral_itself_writes_cannot_be_edited(client: Client, rows: None, model: type) -> None:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert client.get(reverse(f"{name}_add")).status_code == 403
    pk = model.objects.first().pk
    assert client.post(reverse(f"{name}_change", args=[pk]), {"state": "stopped"}).status_code == 403
    assert client.post(reverse(f"{name}_delete", args=[pk]), {"post": "yes"}).status_code == 403
    assert Instance.objects.get().state == State.READY


def test_the_stop_action_calls_the_domain_and_says_what_came_of_it(client: Client, admin: User) -> None:
    stopped = make_instance("beta", state=State.FAILED, desired_state="running")
    away = make_ready("gamma")

    response = client.post(
        reverse("admin:instances_instance_changelist"),
        {"action": "stop", "_selected_action": [stopped.pk, away.pk]},
        follow=True,
    )

    first, second = (str(message) for message in response.context["messages"])
    assert first == "beta was stopped."
    assert second.startswith("gamma: The node main does not answer.")
    assert Instance.objects.get(name="beta").desired_state == DesiredState.STOPPED
    assert InstanceEvent.objects.filter(kind="stop", actor="user:ada", instance_name="beta").exists()


def test_keys_are_revoked_by_an_action_and_never_added(client: Client, admin: User) -> None:
    make_key(admin)
    key = ApiKey.objects.get()

    client.post(reverse("admin:accounts_apikey_changelist"), {"action": "revoke", "_selected_action": [key.pk]})

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert client.get(reverse("admin:accounts_apikey_add")).status_code == 403


def test_only_administrators_get_in(operator: User) -> None:
    client = Client()
    client.force_login(operator)

    assert client.get(reverse("admin:index")).status_code == 302


def test_a_changed_share_makes_gateways_forget_what_they_know(
    client: Client, rows: None, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("accounts.events.publish", sent.append)  # the channel layer's end; no Redis runs here
    share = InstanceShare.objects.get()
    url = reverse("admin:instances_instanceshare_change", args=[share.pk])

    with django_capture_on_commit_callbacks(execute=True):
        client.post(url, {"instance": share.instance_id, "user": share.user_id, "level": "operate"})
        client.post(reverse("admin:instances_instanceshare_delete", args=[share.pk]), {"post": "yes"})

    assert sent == [{"type": "keys.changed"}] * 2
    assert not InstanceShare.objects.exists()
