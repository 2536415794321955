"""Making people and changing their passwords."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password

from accounts.enums import Role
from accounts.models import User


def create_user(*, username: str, password: str, role: Role, email: str = "") -> User:
    """Make a user; raise ValidationError when the name is taken or wrong, or the password too weak."""
    user = User(username=username, role=role, email=email)
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    return user


def set_password(*, user: User, password: str) -> None:
    """Give a user a new password, which ends their sessions; raise ValidationError when it is too weak."""
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])


def find_user(username: str) -> User | None:
    """Return the user with exactly this name, or None."""
    return User.objects.filter(username=username).first()
