"""From rows to what the gateway decides by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.domain.actors import CORRAL, actor_for
from accounts.domain.keys import create_key, hash_key, rotate_key
from accounts.domain.quotas import set_key_limits, set_quota
from accounts.enums import KeyKind, PermissionMode
from accounts.models import ApiKey, User
from gateway.loader import describe_commands, find_principal, find_quotas, load_snapshot
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


def test_options_of_serving_come_along(change_settings: Callable[..., None]) -> None:
    options = {
        "aliases": ["org/a:1", "the model"],
        "concurrency_limit": 4,
        "queue_limit": 5,
        "queue_timeout": 6,
        "connect_timeout": 7,
        "first_byte_timeout": 8,
        "idle_stream_timeout": 9,
        "send_loading_state": False,
        "unlisted": True,
        "ttl": 11,
    }
    change_settings(send_loading_state=True)
    make_ready("alpha", options={"backend_options": {"model": "/m/a.gguf"}, "use_model_name": "told", **options})
    route = load_routes()["alpha"]
    assert route.aliases == ("org/a:1", "the model")
    assert route.served_model == "told"
    assert (route.concurrency_limit, route.queue_limit, route.queue_timeout_s) == (4, 5, 6)
    assert (route.connect_timeout_s, route.first_byte_timeout_s, route.idle_timeout_s) == (7, 8, 9)
    assert (route.sends_loading_state, route.unlisted, route.ttl_s) == (False, True, 11)
    assert route.child_pid == 4711


def test_without_options_of_serving_the_settings_and_defaults_count(change_settings: Callable[..., None]) -> None:
    change_settings(send_loading_state=True, default_idle_timeout=2)
    make_instance("alpha", options={})
    route = load_routes()["alpha"]
    assert (route.sends_loading_state, route.ttl_s) == (True, 120)
    limits = (route.concurrency_limit, route.queue_limit, route.queue_timeout_s)
    times = (route.connect_timeout_s, route.first_byte_timeout_s, route.idle_timeout_s)
    assert (limits, times) == ((0, 0, 0), (0, 0, 0))
    assert (route.aliases, route.unlisted, route.child_pid, route.command) == ((), False, None, "")


def test_a_change_of_them_reaches_the_route_of_a_running_instance_and_keeps_its_run(admin: User) -> None:
    instance = make_ready("alpha")
    before = load_routes()["alpha"]
    changes = {"aliases": ["beta"], "ttl": 5, "use_model_name": "other"}
    update_instance(actor=actor_for(admin), instance=instance, options=changes, merge=True)
    after = load_routes()["alpha"]
    assert after.is_routable
    assert (after.aliases, after.ttl_s, after.served_model) == (("beta",), 5, "other")
    assert (after.run_id, after.port, after.upstream_key) == (before.run_id, before.port, before.upstream_key)
    assert Run.objects.get().generation == Instance.objects.get().generation


def test_commands_are_told_on_demand_in_one_line_without_secrets(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    first = make_ready("first", options={"backend_options": {"model": "/m/a b.gguf", "api_key": "hush"}}, port=8123)
    script = ["sh", "-c", "serve --hf-token hush\n--port ${PORT}"]
    second = make_instance("second", backend_type="command", options={"backend_options": {"command": script}})
    odd = make_instance("odd", backend_type="no_such_engine")
    make_instance("not-asked-for")
    with django_assert_num_queries(1):
        told = describe_commands([first.pk, second.pk, odd.pk, 999_999])
    assert told.keys() == {first.pk, second.pk, odd.pk}
    assert told[first.pk].startswith("llama-server ")
    assert "--model '/m/a b.gguf'" in told[first.pk]
    assert "--port 8123" in told[first.pk]
    assert told[second.pk] == f"sh -c 'serve --hf-token ******** --port {second.port}'"
    assert told[odd.pk] == ""
    assert not any("hush" in text or "\n" in text for text in told.values())


def test_instances_come_by_name_in_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """llamactl 11.2-38: lists came in random order."""
    for name in ("c", "a", "b"):
        make_ready(name, options={"aliases": [f"{name}/alias"]})
    with django_assert_num_queries(1):
        assert [route.name for route in load_snapshot().routes] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [KeyKind.INFERENCE, KeyKind.MANAGEMENT])
def test_an_operators_key_opens_every_instance_present_and_future(operator: User, kind: KeyKind) -> None:
    key = make_key(operator, kind)
    row = ApiKey.objects.get()
    names = {"key_name": str(row), "user_name": "olga"}
    assert find(key) == Principal(kind=kind.value, key_id=row.pk, user_id=operator.pk, instances=None, **names)


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


# Keys follow their owner


def test_a_key_follows_its_owners_demotion_and_the_end_of_a_share(operator: User) -> None:
    alpha, beta = make_instance("alpha"), make_instance("beta")
    key = make_key(operator, KeyKind.INFERENCE)
    assert find(key).instances is None  # type: ignore[union-attr]
    InstanceShare.objects.create(instance=alpha, user=operator, level="use")
    team = Group.objects.create(name="research")
    operator.groups.add(team)
    InstanceShare.objects.create(instance=beta, group=team, level="use")
    User.objects.filter(pk=operator.pk).update(role="member")
    assert find(key).instances == {alpha.pk, beta.pk}  # type: ignore[union-attr]
    operator.groups.remove(team)
    assert find(key).instances == {alpha.pk}  # type: ignore[union-attr]
    InstanceShare.objects.all().delete()
    assert find(key).instances == frozenset()  # type: ignore[union-attr]
    User.objects.filter(pk=operator.pk).update(is_active=False)
    assert find(key) is None


def test_the_secret_before_a_rotation_ends_with_its_grace(operator: User) -> None:
    key, old = create_key(actor=CORRAL, user=operator, name="k", expires_at=timezone.now() + timedelta(days=1))
    new = rotate_key(actor=CORRAL, key=key, grace=timedelta(hours=1))
    former, current = find(old), find(new)
    assert former is not None
    assert current is not None
    assert former.key_id == current.key_id == key.pk
    assert former.expires_at == key.former_ends_at.timestamp()  # type: ignore[union-attr]
    assert current.expires_at == key.expires_at.timestamp()  # type: ignore[union-attr]


def test_limits_of_the_person_and_the_key_come_along_and_a_page_has_the_persons(operator: User) -> None:
    key, plain = create_key(actor=CORRAL, user=operator, name="k")
    assert find(plain).quotas == ()  # type: ignore[union-attr]
    set_quota(actor=CORRAL, unit="tokens", window="month", limit=9)
    set_key_limits(key, {("requests", "minute"): 5})
    counters = [f"key:{key.pk}:requests:minute", f"user:{operator.pk}:tokens:month"]
    assert [quota.counter for quota in find(plain).quotas] == counters  # type: ignore[union-attr]
    assert [quota.counter for quota in find_quotas(operator)] == counters[1:]
