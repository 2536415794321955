"""The rule that somebody is always left who can do everything."""

from __future__ import annotations

from accounts.enums import Role
from accounts.errors import LastAdministrator
from accounts.models import User

AUTOMATION = "system"
"""The user that only owns keys made at start; it has no password, so nobody can sign in as it."""


def require_another_administrator(user: User) -> None:
    """Raise LastAdministrator when this person is the only active administrator. Call it in a transaction.

    The rows stay locked until the transaction ends, so that of two who leave at once the second finds the first gone
    (SQLite lets one transaction write at a time anyway).
    """
    active = User.objects.select_for_update().filter(role=Role.ADMIN, is_active=True).order_by("pk")
    ids = {one.pk for one in active if one.username != AUTOMATION or one.has_usable_password()}
    if ids == {user.pk}:
        raise LastAdministrator(
            f"{user.get_username()} is the last active administrator. Make another person an administrator first."
        )
