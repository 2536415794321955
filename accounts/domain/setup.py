"""The first administrator: from settings, or by a one-time link printed on the console."""

from __future__ import annotations

import secrets

from django.core import signing
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from accounts.domain.actors import CORRAL, actor_for
from accounts.domain.administrators import AUTOMATION
from accounts.domain.audit import record_change
from accounts.domain.keys import create_key, hash_key
from accounts.domain.people import describe, save_new_user
from accounts.enums import KeyKind, Role
from accounts.errors import SetupRefused
from accounts.models import ApiKey, User

SALT = "accounts.setup"
LINK_LIFETIME_S = 24 * 3600


def is_set_up() -> bool:
    """Whether an administrator exists. People who registered before don't count: nobody could approve them."""
    return User.objects.filter(role=Role.ADMIN, is_active=True).exists()


def make_setup_token() -> str:
    """Return a signed token for the set-up page; good for a day and only while there is no administrator."""
    return signing.dumps(secrets.token_hex(8), salt=SALT)


def check_setup_token(token: str) -> None:
    """Raise SetupRefused unless the token is ours, fresh, and there is no administrator yet."""
    if is_set_up():
        raise SetupRefused("Corral is set up already. Sign in instead.")
    try:
        signing.loads(token, salt=SALT, max_age=LINK_LIFETIME_S)
    except signing.BadSignature:
        raise SetupRefused("This set-up link is wrong or too old. Restart Corral for a new one.") from None


def create_first_admin(*, token: str, username: str, password: str) -> User:
    """Make the first administrator by a set-up link; raise SetupRefused or ValidationError."""
    with transaction.atomic():
        if connection.vendor == "postgresql":  # SQLite lets one transaction write at a time anyway
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE accounts_user IN SHARE ROW EXCLUSIVE MODE")
        check_setup_token(token)  # of several who send it at once, one is the first
        return create_admin(username=username, password=password)


def create_admin(*, username: str, password: str) -> User:
    """Make an administrator; raise ValidationError when the name or the password won't do."""
    user = User(username=username, role=Role.ADMIN)
    with transaction.atomic():
        save_new_user(user, password)
        record_change(actor=actor_for(user), action="user.create", target=user, after=describe(user))
    return user


def apply_first_run_settings(*, admin_user: str, admin_password: str, management_key: str) -> list[str]:
    """Make what ``CORRAL_ADMIN_USER``, ``CORRAL_ADMIN_PASSWORD`` and ``CORRAL_MANAGEMENT_KEY`` ask for, once.

    Returns sentences for the console. Raises ValidationError when a name or password is refused. An existing user or
    key is left alone, so that a restart changes nothing.
    """
    said = []
    if bool(admin_user) != bool(admin_password):
        raise ValidationError("Set both CORRAL_ADMIN_USER and CORRAL_ADMIN_PASSWORD, or neither.")
    if admin_user and not User.objects.filter(username=admin_user).exists():
        create_admin(username=admin_user, password=admin_password)
        said.append(f"Made the administrator {admin_user}.")
    if management_key and not ApiKey.objects.filter(key_hash=hash_key(management_key)).exists():
        create_key(
            actor=CORRAL,
            user=owner_of_automation(),
            name="CORRAL_MANAGEMENT_KEY",
            kind=KeyKind.MANAGEMENT,
            key=management_key,
        )
        said.append("Made the management key of CORRAL_MANAGEMENT_KEY.")
    return said


def owner_of_automation() -> User:
    """Return the first administrator, or a user without a password that only owns keys."""
    user = User.objects.filter(role=Role.ADMIN, is_active=True).order_by("id").first()
    if user is None:
        user = User(username=AUTOMATION, role=Role.ADMIN)
        user.set_unusable_password()
        user.save()
    return user
