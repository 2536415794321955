"""Who asks for a change: a person, a person's key, or Corral itself."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from accounts.enums import PermissionMode
from accounts.models import ApiKey, User


@dataclass(frozen=True)
class Actor:
    """Who acts. ``label`` is what events and the audit keep: ``user:anna``, ``key:12 (user:anna)``, ``supervisor``.

    A key acts as its owner and never exceeds them. Without a user the actor is Corral itself or, where
    ``require_management_auth`` is off, whoever asks: both may do everything.
    """

    user: User | None
    key: ApiKey | None
    label: str

    @property
    def is_admin(self) -> bool:
        """Whether the actor may do everything."""
        return self.user is None or self.user.is_admin

    @property
    def is_operator(self) -> bool:
        """Whether the actor may create instances."""
        return self.user is None or self.user.is_operator

    @property
    def is_limited_to_instances(self) -> bool:
        """Whether the actor's key opens chosen instances only."""
        return self.key is not None and self.key.permission_mode == PermissionMode.PER_INSTANCE

    @property
    def can_start(self) -> bool:
        """Whether the actor's key, if it is one, may start instances."""
        return self.key is None or self.key.can_start

    @property
    def can_evict(self) -> bool:
        """Whether what the actor starts may push out others."""
        return self.key is None or self.key.can_evict


ANONYMOUS = Actor(user=None, key=None, label="anonymous")
"""Whoever asks where ``require_management_auth`` is off."""
SUPERVISOR = Actor(user=None, key=None, label="supervisor")
CORRAL = Actor(user=None, key=None, label="corral")
"""Corral itself, as its settings say."""
GATEWAY = Actor(user=None, key=None, label="gateway")


def console_actor() -> Actor:
    """Return who gives a command on the host: they may do everything, as they could change the database itself."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = "?"
    return Actor(user=None, key=None, label=f"console:{name}"[:100])


def actor_for(user: User, key: ApiKey | None = None) -> Actor:
    """Return the actor for a signed-in person, or for a key of theirs."""
    who = f"user:{user.get_username()}"
    label = f"key:{key.pk} ({who})" if key else who
    return Actor(user=user, key=key, label=label[:100])
