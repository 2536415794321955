"""What can go wrong with people and keys; each error carries an HTTP status, a code and a sentence for the user."""

from __future__ import annotations


class AccountError(Exception):
    """Base of this app's errors. ``code`` is the stable word of the API, the message is for people."""

    status = 400
    code = "invalid_request"


class InvalidKeyRequest(AccountError):
    """A key can't be made as asked."""


class SetupRefused(AccountError):
    """The first administrator exists already, or the set-up link is wrong."""

    status = 403
    code = "permission_denied"
