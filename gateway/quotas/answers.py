"""What the client of somebody limited is told: headers as OpenAI names them, and refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gateway.asgi import Headers
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.quotas.meters import REQUESTS, TOKENS, Meters
from gateway.structs import Quota

_UNKNOWN_RETRY_S = 5
_NO_RETRY = (b"x-should-retry", b"false")
"""Keeps OpenAI's and Anthropic's clients from waiting for a day's or a month's end."""


def describe(quotas: Iterable[Quota], meters: Meters) -> Headers:
    """`x-ratelimit-limit-requests` and so on, of the tightest limit of each unit."""
    headers: Headers = []
    now = meters.clock()
    for unit, suffix in ((REQUESTS, b"-requests"), (TOKENS, b"-tokens")):
        tightest: tuple[int, float, int] | None = None
        for quota in quotas:
            if quota.unit == unit and (meter := meters.by_counter.get(quota.counter)) is not None:
                found = (max(0, quota.limit - meter.used), now - meter.ends, quota.limit)
                tightest = found if tightest is None else min(tightest, found)
        if tightest is not None:
            remaining, negative_s, limit = tightest
            headers += [
                (b"x-ratelimit-limit" + suffix, b"%d" % limit),
                (b"x-ratelimit-remaining" + suffix, b"%d" % remaining),
                (b"x-ratelimit-reset" + suffix, format_duration(-negative_s).encode()),
            ]
    return headers


def format_duration(seconds: float) -> str:
    """A length of time as OpenAI writes it: `120ms`, `17s`, `6m0s`, `3h0m0s`; never less than it is."""
    if seconds < 1:
        return f"{max(1, math.ceil(seconds * 1000))}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def refuse(exchange: Exchange, quota: Quota, meters: Meters) -> GatewayError:
    """The refusal by a limit that is used up, and when to come again."""
    meter = meters.by_counter[quota.counter]
    wait_s = max(1, math.ceil(meter.ends - meters.clock()))
    code = "rate_limit_exceeded" if quota.window == "minute" else "quota_exceeded"
    if code == "quota_exceeded":
        exchange.extra_headers.append(_NO_RETRY)
    message = (
        f"The limit of {quota.limit} {quota.unit} per {quota.window} of {quota.whose} is used up. "
        f"Try again in {format_duration(wait_s)}."
    )
    return GatewayError(429, code, message, retry_after_s=wait_s)


def refuse_unknown() -> GatewayError:
    """The refusal while nobody can say what is used."""
    message = "What is used of your limits can't be told at the moment, so nothing is let in; try again"
    return GatewayError(503, "quota_unavailable", message, retry_after_s=_UNKNOWN_RETRY_S)
