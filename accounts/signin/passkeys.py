"""allauth's forms for passkeys, with an audit of those refused and an answer to whatever a browser may send."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.core.exceptions import ValidationError

from accounts.domain.audit_sign_in import record_failed_passkey

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, struct.error)
"""What the reader of credentials raises for those that no browser makes; allauth catches only some of them."""


class Response(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What an authenticator says; bytes are base64url (WebAuthn level 3, 5.1.8)."""

    client_data: str = msgspec.field(name="clientDataJSON")
    attestation_object: str | None = None
    authenticator_data: str | None = None
    signature: str | None = None
    user_handle: str | None = None
    transports: list[str] = msgspec.field(default_factory=list)


class CredentialProperties(msgspec.Struct, omit_defaults=True):
    """The extension that tells whether a passkey names its person."""

    rk: bool | None = None


class ExtensionResults(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The one extension that is asked for."""

    cred_props: CredentialProperties | None = None


class Credential(msgspec.Struct, rename="camel"):
    """What a browser sends of a passkey. The reader makes bytes of anything, and of a number that many zeros."""

    id: str
    raw_id: str
    type: str
    response: Response
    client_extension_results: ExtensionResults = msgspec.field(default_factory=ExtensionResults)


class CredentialField(forms.CharField):
    """The JSON of a passkey, as a dictionary of nothing but what is known."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        """Return the dictionary; raise ValidationError."""
        text = super().to_python(value)
        if not text:
            return text
        try:
            return msgspec.to_builtins(msgspec.json.decode(text, type=Credential))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValidationError("This is no passkey. Reload the page and try again.") from error


def refuse_passkey(error: Exception, sentence: str) -> ValidationError:
    """Return what to raise instead: allauth calls every passkey that won't do a wrong code, as of an app."""
    if isinstance(error, ValidationError) and error.code != "incorrect_code":
        return error  # too many attempts
    return ValidationError(sentence, code="incorrect_passkey")


class RefusedPasskeys:
    """Mixed into a form: writes each passkey that is refused, since allauth sends no signal of it."""

    user: Any
    reauthenticated: bool

    def clean_credential(self) -> Any:
        """Return the passkey; raise ValidationError."""
        try:
            return super().clean_credential()  # type: ignore[misc]  # allauth's
        except (ValidationError, *UNREADABLE) as error:
            record_failed_passkey(self.user, is_signed_in=self.reauthenticated)
            raise refuse_passkey(
                error, "Corral does not know this passkey here. Try again or choose another."
            ) from error


class SignInForm(RefusedPasskeys, LoginWebAuthnForm):  # type: ignore[misc]  # allauth has no types
    """Signing in with a passkey alone; whose it claims to be proves nothing, so the audit names nobody."""

    credential = CredentialField()


class SecondStepForm(RefusedPasskeys, AuthenticateWebAuthnForm):  # type: ignore[misc]
    """A passkey after the password."""

    credential = CredentialField()


class ConfirmForm(RefusedPasskeys, ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """Somebody signed in confirms who they are."""

    credential = CredentialField()


class AddForm(AddWebAuthnForm):  # type: ignore[misc]
    """A new passkey."""

    credential = CredentialField()

    def clean(self) -> dict[str, Any]:
        """Return what was sent; raise ValidationError."""
        try:
            sent: dict[str, Any] = super().clean()
        except (ValidationError, *UNREADABLE) as error:
            raise refuse_passkey(error, "The passkey could not be added. Open this page again and retry.") from error
        return sent
