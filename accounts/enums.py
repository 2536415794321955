"""Choices of people and keys."""

from __future__ import annotations

from django.db.models import TextChoices


class Role(TextChoices):
    """What a person may do; each role may do all that the ones below it may."""

    ADMIN = "admin", "Administrator"
    OPERATOR = "operator", "Operator"
    MEMBER = "member", "Member"


class KeyKind(TextChoices):
    """What a key opens: inference routes, or the management API too."""

    INFERENCE = "inference", "Inference"
    MANAGEMENT = "management", "Management"


class PermissionMode(TextChoices):
    """Which instances a key may use: all that its owner may, or a list of them."""

    ALLOW_ALL = "allow_all", "All instances"
    PER_INSTANCE = "per_instance", "Chosen instances"


class QuotaUnit(TextChoices):
    """What a quota counts: requests that reached a model, or tokens of prompts and answers together."""

    REQUESTS = "requests", "Requests"
    TOKENS = "tokens", "Tokens"


class QuotaWindow(TextChoices):
    """The span of the calendar in which a quota counts, in UTC; at its end the count begins anew."""

    MINUTE = "minute", "Minute"
    DAY = "day", "Day"
    MONTH = "month", "Month"


class RequestOutcome(TextChoices):
    """How a request ended."""

    ANSWERED = "answered", "Answered"
    REFUSED = "refused", "Refused"
    CANCELLED = "cancelled", "Client left"
    UPSTREAM_LOST = "upstream_lost", "Engine broke off"


class AuditSource(TextChoices):
    """Through which door a change came."""

    PAGE = "page", "Page"
    API = "api", "API"
    ADMIN_SITE = "admin_site", "Admin site"
    COMMAND_LINE = "command_line", "Command line"
    CORRAL = "corral", "Corral itself"


class Registration(TextChoices):
    """Whether people may make accounts without an invitation."""

    OFF = "off", "Off"
    APPROVAL = "approval", "With an administrator's approval"
    OPEN = "open", "Open"
