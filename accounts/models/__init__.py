"""People, their API keys, and what was used with them."""

from accounts.models.activity import HourlyUsage, RequestRecord
from accounts.models.audit import AuditEntry
from accounts.models.people import ApiKey, ApiKeyQuerySet, User

__all__ = ["ApiKey", "ApiKeyQuerySet", "AuditEntry", "HourlyUsage", "RequestRecord", "User"]
