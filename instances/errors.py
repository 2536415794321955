"""What can go wrong with instances. Each error has an HTTP status, llamactl's ``error`` code and a sentence."""

from __future__ import annotations


class InstanceError(Exception):
    """Base of this app's errors; ``str(error)`` is the sentence, ``fields`` maps option names to what is wrong."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}


class InvalidOptions(InstanceError):
    """An option has a value that can't work; ``fields`` names it."""


class InvalidName(InstanceError):
    """The name breaks the naming rule."""

    code = "invalid_instance_name"


class InstanceNotFound(InstanceError):
    """No instance of that name that the caller may see."""

    status = 404
    code = "invalid_instance"


class NameTaken(InstanceError):
    """Another instance has the name."""

    status = 409
    code = "create_failed"


class TooManyInstances(InstanceError):
    """``max_instances`` is reached."""

    status = 409
    code = "create_failed"


class PortTaken(InstanceError):
    """The port asked for is out of range or in use, or none is left."""

    status = 409
    code = "create_failed"


class StartRefused(InstanceError):
    """A limit on running instances refuses the start and nothing may be evicted."""

    status = 409
    code = "max_instances_reached"


class StartFailed(InstanceError):
    """The engine could not be started; the message ends with its last log lines."""

    status = 500
    code = "start_failed"


class InstanceDisabled(InstanceError):
    """The instance is switched off for use; its owner must enable it first."""

    status = 409
    code = "instance_disabled"


class StopFailed(InstanceError):
    """The engine did not end within the time a stop may take."""

    status = 500
    code = "stop_failed"


class StillRunning(InstanceError):
    """The instance runs and the caller asked not to stop it."""

    status = 409
    code = "delete_failed"


class NodeUnavailable(InstanceError):
    """The node's worker does not answer."""

    status = 503
    code = "node_unavailable"


class PermissionDenied(InstanceError):
    """The caller may see the instance but not do this."""

    status = 403
    code = "permission_denied"


class InvalidShare(InstanceError):
    """An instance can't be shared or given away like this; ``fields`` names what is wrong."""

    code = "invalid_share"


class UnknownHolder(InstanceError):
    """There is no such person or team to share with."""

    status = 404
    code = "unknown_holder"
