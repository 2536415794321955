"""Requests and tokens per minute, day and month, over all web processes, without a question per request.

Each process counts what it lets in and knows what all of them had counted a moment ago. Five times a second it brings
its own into Redis in one script, which answers with the new totals (`store.py`). So a limit holds exactly but for what
the other processes let in within one such interval. A subject that wasn't seen here lately waits once for its totals.

- Only what goes to one instance counts: lists, figures and `/unload` are answered whatever is used up.
- A request counts when it is let in and is given back when Corral refuses it later or it reached no instance. Tokens
  count when the answer is over; until the limit is reached requests are let in.
- Redis was emptied: the totals that the processes remember are put back; a process that remembers none asks the
  database, which has every request that was recorded.
- Redis is away: once a second the recorded totals are read from the database instead.
- Neither has answered for three seconds: whoever has a limit is refused with 503. Others never notice any of this.
"""

from __future__ import annotations

from gateway.quotas.book import QuotaBook
from gateway.quotas.source import NO_QUOTA_SOURCE, QuotaSource

__all__ = ["NO_QUOTA_SOURCE", "QuotaBook", "QuotaSource"]
