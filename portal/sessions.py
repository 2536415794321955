"""Who is signed in on a page, for the gateway: it knows keys itself, sessions are Django's."""

from __future__ import annotations

from accounts.credentials import PresentedKeys
from gateway.asgi import Scope
from gateway.loader import find_quotas
from gateway.structs import Principal
from instances.domain.access import visible_instances
from instances.logs.access import Credentials, find_actor
from instances.logs.database import run_query
from instances.logs.errors import NotAuthenticated


async def find_session_principal(scope: Scope) -> Principal | None:
    """Return the principal of the request's session cookie, or None. Raises DatabaseError."""
    session = Credentials.from_scope(scope).session
    return await run_query(load_principal, session) if session else None


def load_principal(session: str) -> Principal | None:
    """Read the session's user: operators may use every instance, members what is shared with them."""
    try:
        actor = find_actor(Credentials(PresentedKeys(), session))
    except NotAuthenticated:
        return None
    if actor.user is None:
        return None
    usable = None
    if not actor.user.is_operator:
        usable = frozenset(visible_instances(actor).values_list("pk", flat=True))
    return Principal(
        kind="session",
        user_id=actor.user.pk,
        user_name=actor.user.get_username(),
        instances=usable,
        quotas=find_quotas(actor.user),
    )
