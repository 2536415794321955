"""What can go wrong when logs are read."""

from __future__ import annotations

from instances.errors import InstanceError


class LogUnavailable(InstanceError):
    """The log exists but can't be read now: the disk refuses, or the node that holds it does not answer."""

    status = 500
    code = "logs_failed"


class InvalidLogParameter(InstanceError):
    """A query parameter of a log request has a value that can't be used; the message names it."""

    code = "invalid_parameter"


class NotAuthenticated(InstanceError):
    """No usable management key and no session came with the request."""

    status = 401
    code = "authentication_error"


class WrongKey(NotAuthenticated):
    """What came as a key is none, or is none any more."""


class UnknownLogger(InstanceError):
    """What is asked for is neither ``proxy`` nor ``upstream`` nor a model that the caller may see."""

    code = "invalid_logger"
