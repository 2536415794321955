"""Why a request is not let in, or not any more. The words of llama-swap's reference (2.4, 8-7) come first."""

from __future__ import annotations

import math
import re

from gateway.errors import GatewayError, unknown_instance
from gateway.structs import Principal, Route

_REFUSED_RETRY_S = 5
_QUEUE_RETRY_S = 5
_TIMEOUT_RETRY_S = 10
_BUSY_RETRY_S = 1
_NOT_READY_IN_TIME = re.compile(r"was not ready after ([\d.]+) s")
"""How the supervisor says that an engine's health check did not succeed in its time."""


def judge_route(route: Route | None, principal: Principal, seen: Route) -> GatewayError | None:
    """Why a request that arrived when the route looked like `seen` can't be served any more; None while it may wait.

    What happened since is told by comparing with `seen`, not with a clock: the clocks of nodes differ.
    """
    if route is None:
        return unknown_instance(seen.name)
    if route.disabled:
        return GatewayError(503, "instance_disabled", f"Instance {route.name} is disabled; an operator can enable it")
    return _find_refusal(route, seen) or _find_bar(route, principal)


def _find_refusal(route: Route, seen: Route) -> GatewayError | None:
    """What went wrong since the route looked like `seen`."""
    if route.refused_at is not None and route.refused_at != seen.refused_at:
        reason = route.reason or "the limit of running instances is reached"
        message = f"Instance {route.name} can't be started now: {reason}"
        return GatewayError(409, "max_instances_reached", message, retry_after_s=_REFUSED_RETRY_S)
    if (route.state, route.state_changed_at) == (seen.state, seen.state_changed_at):
        return None
    # Between two attempts as well: whoever waited through a failed start is told at once why it failed.
    if route.state in ("failed", "backoff"):
        return failed_start(route)
    if seen.state == "starting" and route.state in ("stopping", "stopped") and not route.is_wanted:
        message = f"Instance {route.name} was stopped while it was starting"
        return GatewayError(503, "instance_not_running", message)
    return None


def _find_bar(route: Route, principal: Principal) -> GatewayError | None:
    """Why a request of this principal may not start the instance, if it would have to."""
    if route.state not in ("stopped", "failed"):
        return None
    if not principal.can_start and principal.kind == "session":
        message = f"Instance {route.name} is not running and a link from elsewhere doesn't start it; start it first"
        return GatewayError(403, "permission_denied", message)
    if not principal.can_start:
        message = f"Instance {route.name} is not running and this key may not start instances"
        return GatewayError(403, "permission_denied", message)
    if not route.on_demand_start:
        message = f"Instance {route.name} is not running and on-demand start is not enabled for it; start it first"
        return GatewayError(503, "instance_not_running", message)
    return None


def failed_start(route: Route) -> GatewayError:
    """The answer to those who waited for a start that failed, with the engine's last words.

    It recommends no repetition: the next attempt would most likely keep them waiting for the same end.
    """
    reason = route.reason or "its process ended before it was ready"
    beginning = "upstream not ready"
    if in_time := _NOT_READY_IN_TIME.search(reason):
        beginning = f"upstream health check timed out after {math.ceil(float(in_time[1]))}s"
    return GatewayError(
        503,
        "instance_start_failed",
        f"{beginning}: Instance {route.name} failed to start: {reason}",
    )


def wait_too_long(route: Route, timeout_s: float) -> GatewayError:
    """The answer to a request that has waited its time, whether for the start or for a place."""
    if route.is_routable:
        message = (
            f"Instance {route.name} had no free place within {timeout_s:g} seconds: it takes "
            f"{route.concurrency_limit} requests at once; try again later"
        )
        return GatewayError(503, "queue_timeout", message, retry_after_s=_QUEUE_RETRY_S)
    reason = f": {route.reason}" if route.is_queued and route.reason else "; it may be later, try again"
    message = (
        f"upstream health check timed out after {math.ceil(timeout_s)}s: "
        f"Instance {route.name} was not ready within {timeout_s:g} seconds{reason}"
    )
    return GatewayError(503, "instance_start_timeout", message, retry_after_s=_TIMEOUT_RETRY_S)


def too_many_waiting(route: Route, count: int) -> GatewayError:
    """The answer to a request for which the line is too long."""
    message = f"Too many requests: {count} already wait for instance {route.name}; try again in a few seconds"
    return GatewayError(429, "queue_full", message, retry_after_s=_BUSY_RETRY_S)


def too_many_in_work(route: Route) -> GatewayError:
    """The answer to a request for a running instance that has as many in work as it may."""
    message = (
        f"Too many requests: instance {route.name} takes {route.concurrency_limit} at once (concurrency_limit); "
        "try again when one has finished"
    )
    return GatewayError(429, "concurrency_limit", message, retry_after_s=_BUSY_RETRY_S)
