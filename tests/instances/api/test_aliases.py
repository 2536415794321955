"""Other names of instances: nobody shares one, whoever comes first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from accounts.domain.actors import actor_for
from accounts.models import User
from instances.domain.lifecycle import create_instance, update_instance
from instances.enums import ShareLevel
from instances.errors import InstanceError
from instances.models import Instance, InstanceAlias, InstanceShare
from tests.conftest import ApiClient
from tests.factories import make_instance, make_ready


def body(*aliases: str) -> dict[str, object]:
    return {"backend_type": "llama_cpp", "aliases": list(aliases)}


def create(api: ApiClient, name: str, *aliases: str) -> Any:
    return api("POST", f"instances/{name}?start=false", body(*aliases))


def rows(name: str) -> list[str]:
    return list(InstanceAlias.objects.filter(instance__name=name).values_list("alias", flat=True))


def test_aliases_are_shown_in_their_order_and_kept_in_step_by_every_write(api: ApiClient) -> None:
    assert create(api, "alpha", "z/model:1", "a model").json()["options"]["aliases"] == ["z/model:1", "a model"]
    assert rows("alpha") == ["z/model:1", "a model"]

    api("PATCH", "instances/alpha", {"idle_timeout": 1})
    assert rows("alpha") == ["z/model:1", "a model"]
    api("PATCH", "instances/alpha", {"aliases": ["a model", "new"]})
    assert sorted(rows("alpha")) == ["a model", "new"]
    api("PATCH", "instances/alpha", {"aliases": None})
    assert rows("alpha") == []
    api("PATCH", "instances/alpha", {"aliases": ["x"]})
    shown = api("PUT", "instances/alpha", {}).json()
    assert "aliases" not in shown["options"]
    assert rows("alpha") == []


def test_a_deleted_instances_aliases_are_free_again(api: ApiClient) -> None:
    create(api, "alpha", "x")
    assert api("DELETE", "instances/alpha").status_code == 204
    assert create(api, "x").status_code == 201


def test_no_instance_may_be_named_like_anothers_alias(api: ApiClient) -> None:
    create(api, "alpha", "beta")

    answer = create(api, "beta")

    assert answer.status_code == 409
    assert answer.json() == {
        "error": "create_failed",
        "details": "Failed to create instance: name beta is an alias of instance alpha; choose another name",
        "fields": {"name": "Name beta is an alias of instance alpha; choose another name."},
    }
    assert not Instance.objects.filter(name="beta").exists()


def test_no_alias_may_be_anothers_name_or_alias_whether_creating_or_changing(api: ApiClient) -> None:
    create(api, "alpha", "shared")
    make_instance("beta", options={"idle_timeout": 1})

    for alias, complaint in (
        ("alpha", 'aliases: "alpha" is the name of another instance; choose another alias.'),
        ("shared", 'aliases: "shared" is an alias of instance alpha already.'),
    ):
        answers = [
            (create(api, "gamma", "free", alias), "create_failed"),
            (api("PATCH", "instances/beta", {"aliases": ["free", alias]}), "update_failed"),
            (api("PUT", "instances/beta", {"aliases": ["free", alias]}), "update_failed"),
        ]
        for answer, code in answers:
            assert answer.status_code == 409
            shown = answer.json()
            assert (shown["error"], shown["fields"]) == (code, {"aliases": complaint})
            assert shown["details"].endswith(f" instance: {complaint}")

    assert not Instance.objects.filter(name="gamma").exists()
    assert not InstanceAlias.objects.filter(alias="free").exists()
    assert Instance.objects.get(name="beta").options == {"idle_timeout": 1}


def test_an_instances_own_name_is_no_alias(api: ApiClient) -> None:
    make_instance("beta")
    for answer in (create(api, "alpha", "alpha"), api("PATCH", "instances/beta", {"aliases": ["beta"]})):
        assert answer.status_code == 400
        assert answer.json()["fields"]["aliases"].endswith("is the instance's own name; leave it out.")
    assert not Instance.objects.filter(name="alpha").exists()


def test_who_may_not_see_an_instance_is_not_told_its_name(
    api: ApiClient, member: User, api_of: Callable[[User], ApiClient]
) -> None:
    create(api, "secret", "taken")
    InstanceShare.objects.create(instance=make_instance("mine"), user=member, level=ShareLevel.MANAGE)

    answer = api_of(member)("PATCH", "instances/mine", {"aliases": ["taken"]})

    assert answer.status_code == 409
    assert answer.json()["fields"]["aliases"] == 'aliases: "taken" is an alias of another instance already.'


def test_operators_set_what_serves_requests_and_no_process_is_replaced(
    operator: User, api_of: Callable[[User], ApiClient]
) -> None:
    make_ready("alpha", owner=operator)
    given = {
        "aliases": ["org/a:1"],
        "use_model_name": "a",
        "ttl": 0,
        "concurrency_limit": 4,
        "queue_limit": 0,
        "queue_timeout": 9,
        "priority": -1,
        "connect_timeout": 1,
        "first_byte_timeout": 2,
        "idle_stream_timeout": 3,
        "send_loading_state": False,
        "preload": True,
        "unlisted": False,
    }
    api = api_of(operator)

    shown = api("PATCH", "instances/alpha", given).json()

    assert shown["options"].items() >= given.items()
    row = Instance.objects.get()
    assert row.options.items() >= given.items()
    assert (row.generation, row.state, row.desired_state) == (1, "ready", "running")
    assert api("PUT", "instances/alpha", shown["options"]).json()["options"] == shown["options"]
    assert not set(api("PUT", "instances/alpha", {}).json()["options"]) & set(given)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_want_one_name_at_once_exactly_one_gets_it(admin: User) -> None:
    actor = actor_for(admin)
    changed = make_instance("changed")
    wishes: list[Callable[[], object]] = [
        lambda: create_instance(actor=actor, name="wanted", options=body(), start=False),
        lambda: create_instance(actor=actor, name="other", options=body("wanted"), start=False),
        lambda: create_instance(actor=actor, name="third", options=body("wanted"), start=False),
        lambda: update_instance(actor=actor, instance=changed, options={"aliases": ["wanted"]}, merge=True),
    ]
    for _ in range(5):
        outcomes = at_once(wishes)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, InstanceError)]
        assert len(refusals) == len(wishes) - 1
        assert {refusal.status for refusal in refusals} == {409}
        holders = Instance.objects.filter(name="wanted").count() + InstanceAlias.objects.filter(alias="wanted").count()
        assert holders == 1
        Instance.objects.exclude(pk=changed.pk).delete()
        update_instance(actor=actor, instance=changed, options={"aliases": None}, merge=True)


def at_once(wishes: list[Callable[[], object]]) -> list[object]:
    """Run them in threads that begin together; errors are outcomes, too."""
    barrier = Barrier(len(wishes))

    def run(wish: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return wish()
        except InstanceError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(wishes)) as pool:
        return list(pool.map(run, wishes))
