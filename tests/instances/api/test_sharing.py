"""Sharing instances over the API: with people and teams, at each level, and giving them away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts.domain.actors import actor_for
from accounts.models import AuditEntry, User
from instances.domain.access import levels_of
from instances.enums import ShareLevel
from instances.models import Instance, InstanceShare
from tests.conftest import ApiClient
from tests.factories import make_instance

ApiOf = Callable[[User], ApiClient]


@pytest.fixture
def alpha(operator: User) -> Instance:
    return make_instance("alpha", owner=operator)


@pytest.fixture
def team(member: User) -> Group:
    group = Group.objects.create(name="research/vision")
    member.groups.add(group)
    return group


def share(instance: Instance, user: User, level: str) -> InstanceShare:
    return InstanceShare.objects.create(instance=instance, user=user, level=level)


def kinds(instance: Instance) -> list[str]:
    return list(instance.events.order_by("pk").values_list("kind", flat=True))


def test_an_owner_shares_with_a_person_changes_the_level_and_takes_it_back(
    alpha: Instance, operator: User, member: User, api_of: ApiOf
) -> None:
    owner, other = api_of(operator), api_of(member)
    assert other("GET", "instances/alpha").status_code == 404

    answer = owner("PUT", "instances/alpha/shares/users/mia", {"level": "use"})
    assert (answer.status_code, answer.json()) == (200, {"user": "mia", "team": None, "level": "use"})
    assert other("GET", "instances/alpha").status_code == 200
    assert other("GET", "instances/alpha/logs").status_code == 403

    assert owner("PUT", "instances/alpha/shares/users/mia/", {"level": "operate"}).status_code == 200
    assert other("GET", "instances/alpha/logs").status_code == 200
    assert owner("GET", "instances/alpha/shares").json() == [{"user": "mia", "team": None, "level": "operate"}]

    assert owner("DELETE", "instances/alpha/shares/users/mia").status_code == 204
    assert other("GET", "instances/alpha").status_code == 404
    assert owner("DELETE", "instances/alpha/shares/users/mia").status_code == 204
    assert kinds(alpha) == ["shared", "shared", "unshared"]


def test_each_change_is_in_the_audit(alpha: Instance, operator: User, member: User, api_of: ApiOf) -> None:
    owner = api_of(operator)
    for level in ("use", "use", "manage"):  # what changes nothing leaves no entry
        owner("PUT", "instances/alpha/shares/users/mia", {"level": level})
    owner("DELETE", "instances/alpha/shares/users/mia")
    owner("PUT", "instances/alpha/owner", {"owner": "mia"})
    entries = AuditEntry.objects.filter(action__startswith="instance.").order_by("pk")
    assert list(entries.values_list("action", "target_label", "before", "after")) == [
        ("instance.share", "alpha", {}, {"mia": "use"}),
        ("instance.share", "alpha", {"mia": "use"}, {"mia": "manage"}),
        ("instance.unshare", "alpha", {"mia": "manage"}, None),
        ("instance.change_owner", "alpha", {"owner": "olga"}, {"owner": "mia"}),
    ]


def test_a_team_is_shared_with_by_its_name_whatever_is_in_it(
    alpha: Instance, operator: User, member: User, team: Group, api_of: ApiOf
) -> None:
    owner = api_of(operator)
    answer = owner("PUT", "instances/alpha/shares/teams/research%2Fvision", {"level": "manage"})
    assert (answer.status_code, answer.json()) == (200, {"user": None, "team": "research/vision", "level": "manage"})
    assert levels_of(actor_for(member), [alpha])[alpha.pk] == ShareLevel.MANAGE
    assert owner("DELETE", "instances/alpha/shares/teams/research/vision/").status_code == 204
    assert levels_of(actor_for(member), [alpha])[alpha.pk] is None


def test_of_several_shares_the_highest_counts(alpha: Instance, member: User, team: Group) -> None:
    share(alpha, member, "use")
    InstanceShare.objects.create(instance=alpha, group=team, level="operate")
    assert levels_of(actor_for(member), [alpha])[alpha.pk] == ShareLevel.OPERATE


@pytest.mark.parametrize(("level", "status"), [("use", 403), ("operate", 403), ("manage", 200), (None, 404)])
def test_who_manages_may_share_and_nobody_below(
    alpha: Instance, member: User, api_of: ApiOf, level: str | None, status: int
) -> None:
    if level:
        share(alpha, member, level)
    client = api_of(member)
    assert client("GET", "instances/alpha/shares").status_code == status
    for name, known in (("ada", status), ("nobody", 404 if status == 200 else status)):
        if name == "ada":
            User.objects.create_user("ada")
        answer = client("PUT", f"instances/alpha/shares/users/{name}", {"level": "use"})
        assert answer.status_code == known  # names can't be tried out by those who may not share
    assert client("DELETE", "instances/alpha/shares/users/ada").status_code == (204 if status == 200 else status)
    assert client("PUT", "instances/alpha/owner", {"owner": "mia"}).status_code == status


def test_an_operator_runs_but_does_not_share_what_others_own(alpha: Instance, admin: User, api_of: ApiOf) -> None:
    alpha.owner = admin
    alpha.save()
    stranger = User.objects.create_user("otto", role="operator")
    answer = api_of(stranger)("PUT", "instances/alpha/shares/users/otto", {"level": "manage"})
    assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")


def test_an_instance_is_given_away(alpha: Instance, operator: User, member: User, api_of: ApiOf) -> None:
    share(alpha, member, "use")
    answer = api_of(operator)("PUT", "instances/alpha/owner", {"owner": "mia"})
    assert (answer.status_code, answer.json()["owner"]) == (200, "mia")
    assert not alpha.shares.exists()  # an owner needs none, and must not get it back when it is given away again
    assert levels_of(actor_for(member), [Instance.objects.get()])[alpha.pk] == ShareLevel.MANAGE
    assert levels_of(actor_for(operator), [Instance.objects.get()])[alpha.pk] == ShareLevel.OPERATE
    assert alpha.events.get().reason == "belongs to mia"


@pytest.mark.parametrize(
    "case",
    [
        ("PUT", "shares/users/mia", {"level": "everything"}, 400, "invalid_share"),
        ("PUT", "shares/users/mia", {}, 400, "invalid_share"),
        ("PUT", "shares/users/mia", {"level": ["use"]}, 400, "invalid_share"),
        ("PUT", "shares/users/mia", [], 400, "invalid_request"),
        ("PUT", "shares/users/mia", b"{", 400, "invalid_request"),
        ("PUT", "shares/users/olga", {"level": "use"}, 400, "invalid_share"),
        ("PUT", "shares/users/nobody", {"level": "use"}, 404, "unknown_holder"),
        ("PUT", "shares/users/%00", {"level": "use"}, 404, "unknown_holder"),
        ("PUT", "shares/teams/nobody", {"level": "use"}, 404, "unknown_holder"),
        ("DELETE", "shares/users/nobody", None, 404, "unknown_holder"),
        ("PUT", "owner", {}, 400, "invalid_request"),
        ("PUT", "owner", {"owner": 7}, 400, "invalid_request"),
        ("PUT", "owner", {"owner": "nobody"}, 404, "unknown_holder"),
    ],
)
def test_what_can_not_be_shared_is_refused_in_a_sentence(
    alpha: Instance, operator: User, member: User, api_of: ApiOf, case: tuple[str, str, Any, int, str]
) -> None:
    method, path, body, status, error = case
    answer = api_of(operator)(method, f"instances/alpha/{path}", body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["details"]
    assert not alpha.shares.exists()


def test_who_left_gets_nothing_and_their_share_can_be_taken_back(
    alpha: Instance, operator: User, member: User, api_of: ApiOf
) -> None:
    share(alpha, member, "use")
    User.objects.filter(pk=member.pk).update(is_active=False)
    owner = api_of(operator)
    for path, body in (("shares/users/mia", {"level": "manage"}), ("owner", {"owner": "mia"})):
        answer = owner("PUT", f"instances/alpha/{path}", body)
        assert answer.status_code == 400
        assert "not active any more" in answer.json()["details"]
    assert owner("DELETE", "instances/alpha/shares/users/mia").status_code == 204


def test_only_who_manages_an_instance_sees_with_whom_it_was_shared(
    alpha: Instance, operator: User, member: User, admin: User, api_of: ApiOf
) -> None:
    api_of(operator)("PUT", "instances/alpha/shares/users/ada", {"level": "use"})
    api_of(operator)("PUT", "instances/alpha/shares/users/mia", {"level": "operate"})

    def kinds_seen_by(person: User) -> set[str]:
        return {event["kind"] for event in api_of(person)("GET", "instances/alpha/events").json()}

    assert kinds_seen_by(operator) == kinds_seen_by(admin) == {"shared"}
    assert kinds_seen_by(member) == set()
    client = Client()
    for person, sees in ((member, False), (operator, True)):
        client.force_login(person)
        assert ("ada may use it" in client.get("/instances/alpha/").content.decode()) is sees


def test_who_may_only_use_an_instance_reads_no_secret_in_its_options(
    alpha: Instance, operator: User, member: User, api_of: ApiOf
) -> None:
    """Whatever name or text they hide in; who manages it reads what they wrote."""
    secret = "sesame-4711"
    alpha.options = {
        "preset_ini": f"[a]\nmodel = a.gguf\napi-key = {secret}\n",
        "environment": {"PLAIN": secret},
        "backend_options": {
            "model": f"https://anna:{secret}@models.example/a.gguf",
            "api_key": [secret],
            "credentials": secret,
            "extra_args": {"header": f"Authorization: Bearer {secret}", "auth": secret},
            "command": f"serve --port 1 --hf-token {secret} --password={secret}",
        },
    }
    alpha.save()
    share(alpha, member, "use")
    for path in ("instances/alpha", "instances"):
        assert secret not in api_of(member)("GET", path).content.decode()
        assert secret in api_of(operator)("GET", path).content.decode()
    shown = api_of(member)("GET", "instances/alpha").json()["options"]["backend_options"]
    assert shown["model"] == "https://anna:********@models.example/a.gguf"
