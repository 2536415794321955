"""What the log says of a request for a host that Django doesn't answer to."""

from __future__ import annotations

import logging

SHOWN = 100


class RefusedHost(logging.Filter):
    """Makes one short line of it. Anybody can send such a request, and Django would write a traceback for each."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record, whatever its handlers are."""
        request = getattr(record, "request", None)
        host = str(request.META.get("HTTP_HOST", "")) if request is not None else ""
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = "refused a request for %r: no valid host name, or none of CORRAL_ALLOWED_HOSTS"
        record.args = (host if len(host) <= SHOWN else f"{host[:SHOWN]}…",)
        record.exc_info = record.exc_text = None
        return True
