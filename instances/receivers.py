"""What instances do when something happens to people. Imported when the app is ready."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from accounts.domain.actors import Actor
from accounts.domain.leaving import person_leaves
from accounts.errors import InvalidPerson
from accounts.models import User
from instances.domain.sharing import change_owner
from instances.models import Instance


@receiver(person_leaves)
def pass_on_instances(sender: type[User], actor: Actor, user: User, heir: User | None, **kwargs: Any) -> None:
    """Give the instances of somebody who is being deleted to their heir; raise InvalidPerson when there is none."""
    owned = list(Instance.objects.filter(owner=user).order_by("name"))
    if owned and heir is None:
        raise InvalidPerson(f"heir: say who gets the {len(owned)} instances of {user.get_username()}.")
    for instance in owned:
        assert heir is not None  # noqa: S101  as was asked above
        change_owner(actor=actor, instance=instance, owner=heir)
