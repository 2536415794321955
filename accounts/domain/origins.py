"""Where a change comes from: the page, the API, the admin site, the command line, or Corral itself.

Kept in a context variable, so that domain functions need not pass it on. The middleware, the command and the gateway
set it; what nobody set is Corral's own doing, as in Celery's tasks and the supervisor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from accounts.enums import AuditSource


@dataclass(frozen=True)
class Origin:
    """Which door, from which client address, and the request's id if it has one."""

    source: AuditSource = AuditSource.CORRAL
    address: str = ""
    request_id: str = ""


_CURRENT: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039  it can't be changed


def current_origin() -> Origin:
    """Return where the change that is being made comes from."""
    return _CURRENT.get()


@contextmanager
def use_origin(origin: Origin) -> Iterator[None]:
    """Have all that is done inside count as coming from there."""
    token = _CURRENT.set(origin)
    try:
        yield
    finally:
        _CURRENT.reset(token)
