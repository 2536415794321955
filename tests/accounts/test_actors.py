"""Who acts."""

from __future__ import annotations

import pytest

from accounts.domain.actors import ANONYMOUS, GATEWAY, SUPERVISOR, Actor, actor_for
from accounts.enums import PermissionMode, Role
from accounts.models import ApiKey
from tests.factories import make_key, make_user


@pytest.mark.parametrize(
    ("role", "is_admin", "is_operator"),
    [(Role.ADMIN, True, True), (Role.OPERATOR, False, True), (Role.MEMBER, False, False)],
)
def test_a_key_can_do_what_its_owner_can(db: None, role: Role, *, is_admin: bool, is_operator: bool) -> None:
    user = make_user("anna", role)
    make_key(user)
    actor = actor_for(user, ApiKey.objects.get())

    assert (actor.is_admin, actor.is_operator) == (is_admin, is_operator)
    assert actor.label == f"key:{ApiKey.objects.get().pk} (user:anna)"
    assert actor_for(user).label == "user:anna"


def test_a_label_fits_into_an_event(db: None) -> None:
    assert len(actor_for(make_user("x" * 150)).label) == 100


def test_a_key_for_chosen_instances_is_limited(db: None) -> None:
    user = make_user("anna", Role.ADMIN)
    make_key(user, permission_mode=PermissionMode.PER_INSTANCE)

    assert actor_for(user, ApiKey.objects.get()).is_limited_to_instances
    assert not actor_for(user).is_limited_to_instances


@pytest.mark.parametrize("actor", [ANONYMOUS, GATEWAY, SUPERVISOR])
def test_corral_itself_may_do_everything(actor: Actor) -> None:
    assert actor.is_admin
    assert actor.is_operator
