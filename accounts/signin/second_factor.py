"""What allauth asks about second factors and passkeys."""

from __future__ import annotations

import base64
import hashlib
import hmac

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import transaction

from accounts.domain.actors import Actor
from accounts.domain.audit import record_change
from accounts.domain.rights import require_admin_to_change
from accounts.models import User


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """Secrets of authenticator apps are stored encrypted with a key derived from the signing key."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": (
            "This code is wrong or was used already. "
            "An app shows a new one every 30 seconds; a recovery code works once."
        )
    }

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:  # noqa: A002  # allauth's name
        """Return the name of a passkey that was given none."""
        number = Authenticator.objects.filter(user=user, type=type).count() + 1
        return "Passkey" if number == 1 else f"Passkey {number}"

    def get_totp_label(self, user: User) -> str:
        """Return how the account is called in an authenticator app."""
        return user.get_username()

    def get_totp_issuer(self) -> str:
        """Return how Corral is called in an authenticator app."""
        return f"Corral {self._get_site_name()}"

    def encrypt(self, text: str) -> str:
        """Encrypt a secret for the database."""
        return make_cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Decrypt a secret from the database; raise InvalidToken when the signing key is another one now."""
        return make_cipher().decrypt(encrypted_text.encode()).decode()


def make_cipher() -> Fernet:
    """Return the cipher of second factors."""
    digest = hmac.new(settings.SECRET_KEY.encode(), b"accounts.second_factor", hashlib.sha256).digest()
    return Fernet(base64.urlsafe_b64encode(digest))


@transaction.atomic
def forget_second_factors(*, actor: Actor, user: User) -> None:
    """Remove the app, passkeys and recovery codes of somebody who has lost them; raise NotAllowed."""
    require_admin_to_change(actor)
    found = Authenticator.objects.filter(user=user)
    names = [str(authenticator) for authenticator in found]
    if names:
        found.delete()
        before = {"second_factors": names}
        record_change(actor=actor, action="user.remove_second_factor", target=user, before=before)
