"""What can go wrong with people and keys; each error carries an HTTP status, a code and a sentence for the user."""

from __future__ import annotations


class AccountError(Exception):
    """Base of this app's errors. ``code`` is the stable word of the API, the message is for people."""

    status = 400
    code = "invalid_request"


class InvalidKeyRequest(AccountError):
    """A key can't be made as asked."""


class KeyRefused(AccountError):
    """A request about a key can't be carried out; ``field`` names what it is about, ``why`` says more than llamactl."""

    def __init__(self, code: str, message: str, *, status: int = 400, field: str = "", why: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.field = field
        self.why = why


class QuotaRefused(AccountError):
    """A limit can't be set as asked; the sentence begins with the field."""

    code = "invalid_quota"


class QuotaNotFound(AccountError):
    """There is no such limit, or none that the caller may change."""

    status = 404
    code = "quota_not_found"


class SetupRefused(AccountError):
    """The first administrator exists already, or the set-up link is wrong."""

    status = 403
    code = "permission_denied"


class NotAllowed(AccountError):
    """The person may not do this."""

    status = 403
    code = "permission_denied"


class InvalidPerson(AccountError):
    """A value about a person or a team can't be used; the sentence begins with the field."""

    code = "invalid_request"


class PersonNotFound(AccountError):
    """There is no such person."""

    status = 404
    code = "user_not_found"


class TeamNotFound(AccountError):
    """There is no such team, or none that the caller may see."""

    status = 404
    code = "team_not_found"


class NameTaken(AccountError):
    """Another person or team has the name."""

    status = 409
    code = "name_taken"


class LastAdministrator(AccountError):
    """Nobody would be left who can do everything."""

    status = 409
    code = "last_administrator"


class InvitationNotFound(AccountError):
    """There is no such invitation that can still be accepted."""

    status = 404
    code = "invitation_not_found"
