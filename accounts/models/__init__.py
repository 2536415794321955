"""People, their API keys, and what was used with them."""

from accounts.models.activity import HourlyUsage, RequestRecord
from accounts.models.people import ApiKey, ApiKeyQuerySet, User

__all__ = ["ApiKey", "ApiKeyQuerySet", "HourlyUsage", "RequestRecord", "User"]
