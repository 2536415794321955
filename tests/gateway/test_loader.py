"""From rows to what the gateway decides by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.domain.actors import actor_for
from accounts.domain.keys import hash_key
from accounts.enums import KeyKind, PermissionMode
from accounts.models import ApiKey, User
from gateway.loader import describe_commands, find_principal, load_snapshot
from gateway.structs import Principal, Route
from instances.domain.lifecycle import update_instance
from instances.domain.runs import derive_upstream_key
from instances.models import Instance, InstanceShare, KeyPermission, Run
from tests.factories import make_instance, make_key, make_ready, make_run

# The loader closes connections, as nobody does it for its threads; inside a test's transaction that can't work.
pytestmark = pytest.mark.django_db(transaction=True)


def load_routes() -> dict[str, Route]:
    return {route.name: route for route in load_snapshot().routes}


def find(key: str) -> Principal | None:
    return find_principal(hash_key(key))


def test_a_ready_instance_is_dialled_where_its_run_listens() -> None:
    instance = make_ready("alpha", options={"backend_options": {"model": "/m/a.gguf", "host": "0.0.0.0"}})
    Run.objects.update(port=9123)
    run = Run.objects.get()
    route = load_routes()["alpha"]
    assert route.is_routable
    assert (route.host, route.port, route.run_id) == ("127.0.0.1", 9123, run.pk)
    assert route.upstream_key == derive_upstream_key(run.token)
    assert (route.instance_id, route.backend_type) == (instance.pk, "llama_cpp")
    assert route.served_model == "/m/a.gguf"
    assert route.created == int(instance.created_at.timestamp())
    assert route.state_changed_at == instance.state_changed_at.timestamp()


def test_nothing_but_a_ready_instance_with_its_run_is_routable() -> None:
    for state in ("stopped", "starting", "stopping", "backoff", "failed"):
        make_run(make_instance(state, state=state))
    make_instance("lost", state="ready")
    make_run(make_instance("ended", state="ready"), exited_at=timezone.now())
    make_ready("disabled", disabled=True)
    routes = load_routes()
    assert len(routes) == 8
    assert not any(route.is_routable for route in routes.values())


def test_an_ended_run_is_not_the_active_one() -> None:
    instance = make_ready("alpha")
    make_run(instance, exited_at=timezone.now(), port=9001)
    assert load_routes()["alpha"].port == instance.port


def test_what_the_rules_of_waiting_need_is_there(change_settings: Callable[..., None]) -> None:
    change_settings(default_on_demand_start=False)
    now = timezone.now()
    make_instance("explicit", options={"on_demand_start": True}, reason="why", refused_at=now)
    make_instance("default", options={})
    routes = load_routes()
    assert (routes["explicit"].on_demand_start, routes["default"].on_demand_start) == (True, False)
    assert (routes["explicit"].reason, routes["explicit"].refused_at) == ("why", now.timestamp())
    assert routes["default"].refused_at is None


def test_instances_come_by_name_in_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """llamactl 11.2-38: lists came in random order."""
    for name in ("c", "a", "b"):
        make_ready(name)
    with django_assert_num_queries(1):
        assert [route.name for route in load_snapshot().routes] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [KeyKind.INFERENCE, KeyKind.MANAGEMENT])
def test_an_operators_key_opens_every_instance_present_and_future(operator: User, kind: KeyKind) -> None:
    key = make_key(operator, kind)
    row = ApiKey.objects.get()
    assert find(key) == Principal(kind=kind.value, key_id=row.pk, user_id=operator.pk, instances=None)


def test_a_members_key_opens_what_they_own_and_what_is_shared_with_them(member: User, operator: User) -> None:
    team = Group.objects.create(name="team")
    member.groups.add(team)
    owned, shared, for_team, foreign = (make_instance(name) for name in ("owned", "shared", "team", "foreign"))
    Instance.objects.filter(pk=owned.pk).update(owner=member)
    Instance.objects.filter(pk=foreign.pk).update(owner=operator)
    InstanceShare.objects.create(instance=shared, user=member)
    InstanceShare.objects.create(instance=for_team, group=team)
    InstanceShare.objects.create(instance=for_team, user=member)
    for kind in (KeyKind.INFERENCE, KeyKind.MANAGEMENT):
        principal = find(make_key(member, kind))
        assert principal is not None
        assert principal.instances == {owned.pk, shared.pk, for_team.pk}


def test_a_list_of_instances_narrows_what_the_owner_may_use_and_never_widens_it(member: User, operator: User) -> None:
    owned, foreign, unlisted = (
        make_instance("owned", owner=member),
        make_instance("x"),
        make_instance("y", owner=member),
    )
    for user, expected in ((member, {owned.pk}), (operator, {owned.pk, foreign.pk})):
        key = make_key(user, KeyKind.INFERENCE, PermissionMode.PER_INSTANCE)
        row = ApiKey.objects.get(key_hash=hash_key(key))
        for instance in (owned, foreign):
            KeyPermission.objects.create(api_key=row, instance=instance)
        principal = find(key)
        assert principal is not None
        assert principal.instances == expected
        assert not principal.may_use(unlisted.pk)


def test_rights_to_start_and_evict_and_the_expiry_come_along(member: User) -> None:
    key = make_key(member, KeyKind.INFERENCE)
    expiry = timezone.now() + timedelta(hours=1)
    ApiKey.objects.update(can_start=False, can_evict=False, expires_at=expiry)
    principal = find(key)
    assert principal is not None
    assert (principal.can_start, principal.can_evict) == (False, False)
    assert principal.expires_at == expiry.timestamp()


@pytest.mark.parametrize("end", ["unknown", "revoked", "expired", "inactive"])
def test_a_key_that_opens_nothing_is_nobody(operator: User, end: str) -> None:
    key = make_key(operator)
    assert find(key) is not None
    if end == "unknown":
        ApiKey.objects.all().delete()
    elif end == "revoked":
        ApiKey.objects.update(revoked_at=timezone.now())
    elif end == "expired":
        ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        User.objects.update(is_active=False)
    assert find(key) is None


def test_an_instance_of_an_unknown_engine_does_not_freeze_the_others() -> None:
    make_ready("good")
    make_instance("odd", backend_type="no_such_engine")
    assert set(load_routes()) == {"good"}
