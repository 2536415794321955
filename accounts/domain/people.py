"""Making and changing people, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.domain.actors import Actor
from accounts.domain.administrators import AUTOMATION, require_another_administrator
from accounts.domain.audit import read_fields, record_change
from accounts.domain.rights import require_admin, require_admin_to_change
from accounts.domain.sessions import end_sessions
from accounts.domain.teams import add_member
from accounts.enums import Role
from accounts.errors import NotAllowed, PersonNotFound
from accounts.events import announce_keys_changed
from accounts.models import Team, User

DETAILS = ("first_name", "last_name", "email")


@transaction.atomic
def create_user(
    *,
    actor: Actor,
    username: str,
    password: str | None,
    role: Role = Role.MEMBER,
    email: str = "",
    teams: Iterable[Team] = (),
) -> User:
    """Make a user; raise NotAllowed, or ValidationError when the name is taken or wrong, or the password too weak.

    Without a password the person can only come in by a provider that Corral trusts.
    """
    require_admin_to_change(actor)
    user = User(username=username, role=role, email=email)
    save_new_user(user, password)
    record_change(actor=actor, action="user.create", target=user, after=describe(user))
    for team in teams:
        add_member(actor=actor, team=team, user=user)
    return user


def save_new_user(user: User, password: str | None) -> None:
    """Check and save a person who is new; raise ValidationError when the name or the password won't do."""
    if password is None:
        user.set_unusable_password()
    else:
        validate_password(password, user)
        user.set_password(password)
    user.full_clean()
    if user.username.lower() == AUTOMATION:
        raise ValidationError({"username": f"The name {AUTOMATION} is kept for Corral itself. Choose another one."})
    if User.objects.filter(username__iexact=user.username).exists():  # people sign in by it in any case
        raise ValidationError({"username": "A user with that username already exists."})
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:  # another got the name in the meantime
        raise ValidationError({"username": "A user with that username already exists."}) from None


@transaction.atomic
def set_password(*, actor: Actor, user: User, password: str) -> None:
    """Give a user a new password, which ends their sessions.

    Raises NotAllowed unless it is the actor's own or the actor an administrator, ValidationError when it is too weak.
    """
    if actor.key is not None or actor.user != user:
        require_admin_to_change(actor)
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    record_change(actor=actor, action="user.set_password", target=user)
    end_sessions(actor=actor, user=user)


@transaction.atomic
def change_details(*, actor: Actor, user: User, **details: str) -> None:
    """Change first name, last name or e-mail address; raise NotAllowed, or ValidationError naming the field."""
    if actor.key is not None or actor.user != user:
        require_admin_to_change(actor)
    before = read_fields(user, *DETAILS)
    for name in DETAILS:
        if name in details:
            setattr(user, name, details[name])
    user.clean_fields(exclude=["password", "username", "role"])
    user.save(update_fields=DETAILS)
    after = read_fields(user, *DETAILS)
    if after != before:
        record_change(actor=actor, action="user.update", target=user, before=before, after=after)


@transaction.atomic
def change_role(*, actor: Actor, user: User, role: Role) -> None:
    """Give a person another role, which counts at once; raise NotAllowed or LastAdministrator."""
    require_admin_to_change(actor)
    if role != Role.ADMIN:
        require_another_administrator(user)
    user.refresh_from_db()
    before = user.role
    if before == role:
        return
    user.role = role
    user.save(update_fields=["role", "is_staff", "is_superuser"])
    record_change(actor=actor, action="user.change_role", target=user, before={"role": before}, after={"role": role})
    announce_keys_changed()


def describe(user: User) -> dict[str, object]:
    """Return what the audit keeps of a person who comes or goes."""
    return read_fields(user, "username", "role", "email", "is_active")


def find_user(username: str) -> User | None:
    """Return the user with exactly this name, or None."""
    return None if "\0" in username else User.objects.filter(username=username).first()  # PostgreSQL takes no NUL


def get_user(actor: Actor, user_id: int) -> User:
    """Return a person for an administrator; raise NotAllowed or PersonNotFound."""
    require_admin(actor)
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise PersonNotFound(f"There is no user {user_id}.")
    return user


def require_other_person(actor: Actor, user: User, what: str) -> None:
    """Raise NotAllowed when somebody would shut themselves out."""
    if actor.user == user:
        raise NotAllowed(f"You can't {what} yourself. Ask another administrator.")
