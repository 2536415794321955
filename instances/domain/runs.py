"""Facts about runs."""

from __future__ import annotations

import hashlib
import hmac

from django.conf import settings


def derive_upstream_key(token: str) -> str:
    """Return the API key that the engine of the run with this token demands.

    Derived from SECRET_KEY, so that it is stored nowhere; 64 hex digits.
    """
    return hmac.new(settings.SECRET_KEY.encode(), b"corral.run:" + token.encode(), hashlib.sha256).hexdigest()
