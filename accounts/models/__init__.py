"""People, their API keys, and what was used with them."""

from accounts.models.activity import HourlyUsage, RequestRecord
from accounts.models.audit import AuditEntry
from accounts.models.people import ApiKey, ApiKeyQuerySet, User
from accounts.models.quota import Quota
from accounts.models.sessions import UserSession
from accounts.models.teams import Invitation, InvitationQuerySet, Team

__all__ = [
    "ApiKey",
    "ApiKeyQuerySet",
    "AuditEntry",
    "HourlyUsage",
    "Invitation",
    "InvitationQuerySet",
    "Quota",
    "RequestRecord",
    "Team",
    "User",
    "UserSession",
]
