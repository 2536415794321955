"""Codes as authenticator apps compute them (RFC 6238)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time


def compute_code(secret: str, moment: float | None = None) -> str:
    counter = int((time.time() if moment is None else moment) // 30)
    digest = hmac.new(base64.b32decode(secret), counter.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**6:06}"
