"""Django's admin site: every model can be looked at, no secret is shown, and changes go through the domain."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin as site
from django.contrib.auth.models import Group
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.domain_admin import DomainAdmin
from accounts.enums import Role
from accounts.models import ApiKey, AuditEntry, HourlyUsage, Invitation, Quota, RequestRecord, Team, User, UserSession
from instances.domain import lifecycle, waiting
from instances.enums import DesiredState, State
from instances.models import Instance, InstanceAlias, InstanceEvent, InstanceShare, KeyPermission, Node, Run
from tests.factories import make_instance, make_key, make_node, make_ready, make_user

APPS = ("accounts", "gallery", "instances", "portal")
MODELS = [model for label in APPS for model in apps.get_app_config(label).get_models()]
SECRET = "hush-" + secrets.token_hex(8)


def named(model: type[Model]) -> str:
    return f"admin:{model._meta.app_label}_{model._meta.model_name}"


@pytest.fixture
def client(admin: User) -> Client:
    admin.set_password(SECRET)
    admin.save()
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def rows(admin: User) -> None:
    """A row of each model, with the secret wherever one could be."""
    make_key(admin)
    key = ApiKey.objects.get()
    options = {
        "backend_options": {"api_key": SECRET, "extra_args": {"hf_token": SECRET}},
        "environment": {"HF_TOKEN": SECRET, "PLAIN": SECRET},
    }
    instance = make_ready("alpha", options=options)
    InstanceShare.objects.create(instance=instance, user=make_user("mia"))
    InstanceAlias.objects.create(instance=instance, alias="other")
    KeyPermission.objects.create(api_key=key, instance=instance)
    InstanceEvent.objects.create(instance=instance, instance_name="alpha", kind="created", actor="user:ada")
    now = timezone.now()
    RequestRecord.objects.create(finished_at=now, path="/v1/x", method="POST", status=200, duration_ms=1)
    HourlyUsage.objects.create(hour=now, requests=1)
    AuditEntry.objects.create(actor="user:ada", source="page", action="instance.create")
    team = Team.objects.create(group=Group.objects.create(name="red"))
    Invitation.objects.create(token_hash=SECRET, team=team, expires_at=now + timedelta(days=1))
    UserSession.objects.create(user=admin, session_key=SECRET)
    Quota.objects.create(user=admin, unit="requests", window="day", limit=5)


def list_secrets() -> list[str]:
    key, user = ApiKey.objects.get(), User.objects.get(username="ada")
    return [SECRET, key.key_hash, Run.objects.get().token, user.password]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_has_a_list_and_pages_without_secrets(
    client: Client, admin: User, rows: None, model: type[Model]
) -> None:
    ApiKey.objects.update(former_hash=SECRET)
    for row in model._default_manager.all():
        pk = row.pk
        paths = [
            reverse(f"{named(model)}_changelist"),
            reverse(f"{named(model)}_changelist") + "?q=a",
            reverse(f"{named(model)}_change", args=[pk]),
            reverse(f"{named(model)}_history", args=[pk]),
            reverse(f"{named(model)}_delete", args=[pk]),
            reverse(f"{named(model)}_add"),
        ]
        answers = [client.get(path) for path in paths]
        assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
        assert {answer.status_code for answer in answers[3:]} <= {200, 403}
        text = "".join(answer.content.decode() for answer in answers)
        assert not [secret for secret in list_secrets() if secret in text]
    assert model._default_manager.exists(), "make a row of the new model above"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_is_registered_with_useful_columns_and_a_search(model: type[Model]) -> None:
    registered = site.site.get_model_admin(model)
    assert isinstance(registered, DomainAdmin), "another base would let forms go round the rules"
    assert len(registered.list_display) > 1
    assert registered.search_fields


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_is_added_or_edited(client: Client, admin: User, rows: None, model: type[Model]) -> None:
    pk = model._default_manager.order_by("pk").first().pk  # type: ignore[union-attr]  # there is one
    before = list(model._default_manager.values())

    assert client.post(reverse(f"{named(model)}_add"), {"name": "x"}).status_code == 403
    assert client.post(reverse(f"{named(model)}_change", args=[pk]), {"state": "stopped"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
    client.post(reverse(f"{named(model)}_changelist"), chosen)

    assert list(model._default_manager.values()) == before


KEPT = [Run, Node, InstanceEvent, InstanceAlias, RequestRecord, HourlyUsage, AuditEntry, Invitation, KeyPermission]


@pytest.mark.parametrize("model", KEPT)
def test_what_only_corral_deletes_cannot_be_deleted(client: Client, rows: None, model: type[Model]) -> None:
    pk = model._default_manager.order_by("pk").first().pk  # type: ignore[union-attr]  # there is one

    assert client.post(reverse(f"{named(model)}_delete", args=[pk]), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=pk).exists()


def act(client: Client, model: type[Model], action: str, *rows: Model) -> list[str]:
    """Do an action with these rows and return what is said."""
    AuditEntry.objects.all().delete()
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    answer = client.post(reverse(f"{named(model)}_changelist"), chosen, follow=True)
    assert answer.redirect_chain
    return [str(message) for message in answer.context["messages"]]


def delete(client: Client, row: Model) -> list[str]:
    """Delete a row and return what is said."""
    AuditEntry.objects.all().delete()
    answer = client.post(reverse(f"{named(type(row))}_delete", args=[row.pk]), {"post": "yes"}, follow=True)
    assert answer.redirect_chain
    return [str(message) for message in answer.context["messages"]]


def list_entries() -> list[tuple[str, str, str]]:
    rows = AuditEntry.objects.order_by("id")
    return [(entry.action, entry.source, entry.user_name) for entry in rows]


def test_the_stop_action_calls_the_domain_and_says_what_came_of_it(client: Client) -> None:
    stopped = make_instance("beta", state=State.FAILED, desired_state="running")
    away = make_ready("gamma")

    first, second = act(client, Instance, "stop", stopped, away)

    assert first == "Stopped: beta."
    assert second.startswith("Not stopped: gamma. The node main does not answer.")
    assert Instance.objects.get(name="beta").desired_state == DesiredState.STOPPED
    assert InstanceEvent.objects.filter(kind="stop", actor="user:ada", instance_name="beta").exists()
    assert list_entries() == [("instance.stop", "admin_site", "ada")]


@pytest.mark.parametrize("action", ["start", "restart"])
def test_starting_goes_through_the_domain(client: Client, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setattr(waiting, "wait_for_start", lambda row, **_: row)  # no supervisor runs here
    make_node(alive=True)
    ready, disabled = make_instance("alpha"), make_instance("beta", disabled=True)

    said = act(client, Instance, action, ready, disabled)

    refused = f"Not {action}ed: beta. beta is disabled. Set disabled to false first."
    assert said == [f"{action.capitalize()}ed: alpha.", refused]
    assert list_entries() == [(f"instance.{action}", "admin_site", "ada")]


def test_an_instance_is_deleted_gracefully_or_not_at_all(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deletion must not hold a transaction while it waits for the supervisor, which would never see the wish."""
    from django.db import connection

    depths: list[int] = []
    stopped = make_instance("alpha")
    running = make_ready("beta")
    original = lifecycle.delete_instance

    def delete_watched(**values: object) -> None:
        depths.append(len(connection.savepoint_ids))
        original(**values)  # type: ignore[arg-type]

    monkeypatch.setattr("instances.admin.delete_instance", delete_watched)

    assert delete(client, stopped) == ["Deleted: alpha."]
    assert list_entries() == [("instance.delete", "admin_site", "ada")]
    (said,) = delete(client, running)
    assert said.startswith("Not deleted: beta. The node main does not answer.")
    assert Instance.objects.filter(name="beta").exists()
    assert depths == [0, 0]


def test_keys_are_revoked_and_deleted_by_the_domain(client: Client, admin: User) -> None:
    make_key(admin)
    key = ApiKey.objects.get()

    assert act(client, ApiKey, "revoke", key) == [f"Revoked: {key}."]
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert list_entries() == [("key.revoke", "admin_site", "ada")]
    assert delete(client, key) == [f"Deleted: {key}."]
    assert list_entries() == [("key.delete", "admin_site", "ada")]


def test_people_are_let_in_and_out_by_the_domain(client: Client, member: User) -> None:
    assert act(client, User, "deactivate", member) == ["Deactivated: mia."]
    member.refresh_from_db()
    assert not member.is_active
    assert list_entries() == [("user.deactivate", "admin_site", "ada")]
    assert act(client, User, "activate", member) == ["Let in: mia."]
    assert list_entries() == [("user.activate", "admin_site", "ada")]


def test_the_last_administrator_stays(client: Client, admin: User) -> None:
    (said,) = act(client, User, "deactivate", admin)
    assert said.startswith("Not deactivated: ada. ")
    (said,) = delete(client, admin)
    assert said.startswith("Not deleted: ada. ")

    admin.refresh_from_db()
    assert admin.is_active
    assert list_entries() == []


def test_people_are_deleted_by_the_domain(client: Client, operator: User) -> None:
    assert delete(client, operator) == ["Deleted: olga."]

    assert not User.objects.filter(username="olga").exists()
    assert ("user.delete", "admin_site", "ada") in list_entries()


def test_teams_shares_limits_and_invitations_end_by_the_domain(client: Client, rows: None) -> None:
    assert delete(client, InstanceShare.objects.get()) != []
    assert list_entries() == [("instance.unshare", "admin_site", "ada")]
    invitation = Invitation.objects.get()
    assert act(client, Invitation, "withdraw", invitation) == [f"Withdrawn: {invitation}."]
    assert list_entries() == [("invitation.withdraw", "admin_site", "ada")]
    (said,) = act(client, Invitation, "withdraw", invitation)
    assert "There is no such invitation" in said
    delete(client, Quota.objects.get())
    assert list_entries() == [("quota.delete", "admin_site", "ada")]
    delete(client, Team.objects.get())
    assert list_entries() == [("team.delete", "admin_site", "ada")]
    assert not Quota.objects.exists()
    assert not Team.objects.exists()
    assert not InstanceShare.objects.exists()


def test_a_row_that_is_gone_is_said_so(client: Client, member: User) -> None:
    pk = member.pk
    member.delete()

    assert client.post(reverse("admin:accounts_user_delete", args=[pk]), {"post": "yes"}).status_code == 302


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        (User, "password__startswith"),
        (User, "api_keys__key_hash__startswith"),
        (User, "groups__user__password__startswith"),
        (ApiKey, "key_hash__startswith"),
        (ApiKey, "former_hash__startswith"),
        (ApiKey, "user__password__startswith"),
        (Invitation, "token_hash__startswith"),
        (UserSession, "session_key__startswith"),
        (Run, "token__startswith"),
        (Instance, "options__icontains"),
        (AuditEntry, "before__icontains"),
    ],
)
def test_a_list_is_no_oracle_for_secrets(client: Client, rows: None, model: type[Model], lookup: str) -> None:
    """By what a filter finds, a secret could be guessed letter by letter."""
    assert client.get(reverse(f"{named(model)}_changelist"), {lookup: "a"}).status_code == 400


def test_lists_are_filtered_by_what_they_offer(client: Client, rows: None) -> None:
    people = client.get(reverse(f"{named(User)}_changelist"), {"role__exact": "member"})
    assert people.status_code == 200
    assert [user.username for user in people.context["cl"].queryset] == ["mia"]
    group = Group.objects.get()
    team = client.get(reverse(f"{named(User)}_changelist"), {"groups__id__exact": str(group.pk)})
    assert (team.status_code, team.context["cl"].queryset.count()) == (200, 0)
    assert client.get(reverse(f"{named(ApiKey)}_changelist"), {"revoked_at__isempty": "1"}).status_code == 200
    assert client.get(reverse(f"{named(AuditEntry)}_changelist"), {"created_at__year": "2026"}).status_code == 200


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MEMBER])
def test_only_administrators_get_in(db: None, role: Role) -> None:
    client = Client()
    client.force_login(make_user("otto", role))

    refused = client.get(reverse("admin:index"), follow=True)
    assert (refused.status_code, len(refused.redirect_chain)) == (403, 1)
    for model in MODELS:
        assert client.post(reverse(f"{named(model)}_changelist"), {"action": "stop"}).status_code == 302


def test_what_others_registered_shows_no_secret_either() -> None:
    """Packages register models of their own, with tokens and recovery codes among their columns."""
    allowed = {*MODELS}
    assert {model for model in site.site._registry if model not in allowed} == set()


def test_people_sign_in_and_change_passwords_where_everybody_does(client: Client, admin: User) -> None:
    """Django's own forms there know no second factor, no limit on guessing, and leave no audit entry."""
    answer = Client().get("/admin/instances/instance/", follow=True)
    assert answer.redirect_chain[-1][0].startswith(f"{reverse('login')}?next=")
    wrong = {"username": "ada", "password": SECRET}
    assert Client().post("/admin/login/", wrong).status_code == 302
    assert not Client().post("/admin/login/", wrong).wsgi_request.user.is_authenticated
    words = {"old_password": SECRET, "new_password1": "correct horse battery", "new_password2": "correct horse battery"}

    assert client.post("/admin/password_change/", words).status_code == 404

    admin.refresh_from_db()
    assert admin.check_password(SECRET)
    assert "password_change" not in client.get("/admin/").content.decode()


@pytest.mark.parametrize("number", ["x", "", "-1", "99999999999999999999", "9" * 30, "\0", "\u0661"])
def test_what_is_no_row_is_not_found_and_not_acted_upon(client: Client, rows: None, number: str) -> None:
    AuditEntry.objects.all().delete()
    for model, action in ((ApiKey, "revoke"), (Invitation, "withdraw"), (User, "deactivate"), (Instance, "start")):
        chosen = {"action": action, "_selected_action": [number]}
        answer = client.post(reverse(f"{named(model)}_changelist"), chosen, follow=True)
        assert answer.status_code == 200
    assert list_entries() == []
    if number and number != "\0":
        for model in (Team, ApiKey, User, Instance):
            for page in ("change", "delete", "history"):
                assert client.get(reverse(f"{named(model)}_{page}", args=[number])).status_code == 302
