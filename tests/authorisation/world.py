"""The people, keys and instances of the table, and the whole application in this process to ask as one of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError, transaction
from django.middleware.csrf import _get_new_csrf_string
from django.utils import timezone

from accounts.domain.actors import SUPERVISOR
from accounts.domain.audit import record_change
from accounts.domain.invitations import create_invitation
from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import ApiKey, AuditEntry, Quota, Team, User
from gateway.asgi import ASGIApp
from instances.logs.database import run_query
from instances.models import InstanceShare, KeyPermission, Node
from tests.authorisation.table import BACK, CALLERS, LOGIN, SIGNED_IN
from tests.factories import make_instance, make_key, make_ready, make_user

HOST = "corral.example"
KEPT = ("contenttypes.ContentType", "auth.Permission")
STREAM = b"x-accel-buffering"
"""A header of answers that go on for ever."""
SOON_S = 5.0
ADDRESSES = ip_network("10.0.0.0/8").hosts()

Headers = list[tuple[bytes, bytes]]
TOKEN = _get_new_csrf_string().encode()
COOKIE = b"csrftoken=" + TOKEN
FROM_OUR_PAGE: Headers = [
    (b"x-csrftoken", TOKEN),
    (b"origin", f"http://{HOST}".encode()),
    (b"sec-fetch-site", b"same-origin"),
]
"""What a browser and a page of ours add to a request."""


@dataclass
class Answer:
    """What came of a request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_without_effect: bool = False
    """A change that was asked for left no entry in the audit."""

    @property
    def outcome(self) -> str:
        """The word for it in the table."""
        if self.status != 302:
            return str(self.status)
        path = urlsplit(self.headers.get("location", "")).path
        if path.rstrip("/").rsplit("/", 1)[-1] == "login":
            return LOGIN
        return BACK if self.is_without_effect else "302"


def empty_database() -> None:
    """Delete every row but what migrations made, in one transaction, at whose end alone references are checked.

    The accounts of earlier requests are written at the same time, in another order: one of the two has to give way.
    """
    while True:
        try:
            with transaction.atomic():
                for model in apps.get_models(include_auto_created=True):
                    if model._meta.label not in KEPT and model._meta.managed:
                        model._base_manager.all()._raw_delete(using="default")
        except OperationalError as error:
            if "deadlock detected" not in str(error):
                raise
        else:
            return


class World:
    """``alpha`` is ready and belongs to an administrator; ``omega`` stands beside it. ``port`` is the engine's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._headers: dict[str, Headers] = {}
        self.ids: dict[str, int] = {}
        self._newest_entry = 0

    def build(self) -> None:
        """Make everything anew."""
        empty_database()
        with transaction.atomic():
            Node.objects.create(name=django_settings.CORRAL.node, last_seen_at=timezone.now() + timedelta(days=1))
            people = {name: make_user(name) for name in ("member", "use", "operate", "manage", "mia")}
            people["operator"] = make_user("operator", Role.OPERATOR)
            admin = people["admin"] = make_user("admin", Role.ADMIN)
            alpha = make_ready("alpha", owner=admin, port=self._port)
            other = make_instance("omega", owner=admin)
            team = Group.objects.create(name="research")
            Team.objects.get_or_create(group=team)
            people["mia"].groups.add(team)
            invitation, _ = create_invitation(actor=SUPERVISOR)
            for level in ("use", "operate", "manage"):
                InstanceShare.objects.create(instance=alpha, user=people[level], level=level)
            keys = {
                "inference key": make_key(people["use"], KeyKind.INFERENCE),
                "limited inference key": make_key(admin, KeyKind.INFERENCE, PermissionMode.PER_INSTANCE),
                "expired key": make_key(admin, KeyKind.MANAGEMENT),
                "management key": make_key(admin, KeyKind.MANAGEMENT),
                "limited management key": make_key(admin, KeyKind.MANAGEMENT, PermissionMode.PER_INSTANCE),
            }
            for key in ApiKey.objects.filter(permission_mode=PermissionMode.PER_INSTANCE):
                KeyPermission.objects.create(api_key=key, instance=other)
            expired = ApiKey.objects.filter(user=admin, permission_mode=PermissionMode.ALLOW_ALL).order_by("pk")
            ApiKey.objects.filter(pk=expired[0].pk).update(expires_at=timezone.now() - timedelta(hours=1))
            record_change(actor=SUPERVISOR, action="instance.create", target=alpha)
            key = ApiKey.objects.get(user=people["use"]).pk
            entry = self._newest_entry = AuditEntry.objects.latest("pk").pk
            quota = Quota.objects.create(user=people["use"], unit="requests", window="day", limit=None).pk
            self.ids = {
                "/api/v1/auth/keys/{key_id}": key,
                "/keys/{pk}": key,
                "/audit/{pk}": entry,
                "/api/v1/quotas/{pk}": quota,
                "/limits/{pk}": quota,
                "/api/v1/users/{user_id}": people["mia"].pk,
                "/api/v1/teams/{team_id}": team.pk,
                "/api/v1/invitations/{invitation_id}": invitation.pk,
                "/people/{user_id}": people["mia"].pk,
                "/people/invitations/{invitation_id}": invitation.pk,
                "/teams/{team_id}": team.pk,
                "/teams/{team_id}/members/{user_id}": people["mia"].pk,
            }
            self._headers = {"anonymous": [(b"cookie", COOKIE)]}
            self._headers |= {name: [bearer(key), (b"cookie", COOKIE)] for name, key in keys.items()}
            self._headers |= {name: [(b"cookie", COOKIE + b"; " + sign_in(people[name]))] for name in SIGNED_IN}
        assert set(self._headers) == set(CALLERS)

    def is_unchanged(self) -> bool:
        """Whether the audit has no entry beyond those of the world's making: every change leaves one."""
        return AuditEntry.objects.latest("pk").pk == self._newest_entry

    def headers_of(self, caller: str) -> Headers:
        """What a caller's requests carry."""
        return [*self._headers[caller], *FROM_OUR_PAGE]


def bearer(key: str) -> tuple[bytes, bytes]:
    """Return the header that carries a key."""
    return b"authorization", f"Bearer {key}".encode()


def sign_in(user: User) -> bytes:
    """Return the cookie of somebody who is signed in."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return f"sessionid={session.session_key}".encode()


class Portal:
    """The application in this process. ``is_stale``: the world must be made anew before the next request."""

    def __init__(self, application: Any, world: World) -> None:
        self.application: ASGIApp = application
        self._gateway = application.gateway
        self._world = world
        self._is_stale = True

    async def ask(
        self,
        method: str,
        path: str,
        caller: str,
        body: object = None,
        *,
        drop: Sequence[bytes] = (),
        add: Sequence[tuple[bytes, bytes]] = (),
    ) -> Answer:
        """Send a request as one of the callers, without some headers that it would carry, and with others."""
        await self.freshen()
        headers = [*(header for header in self._world.headers_of(caller) if header[0] not in drop), *add]
        data, content_type = encode(body)
        headers += [(b"content-type", content_type), (b"content-length", b"%d" % len(data))] if data else []
        answer = await send_request(self.application, method, path, headers, data)
        is_change = method != "GET" or "unload" in path
        if answer.status < 400 and is_change and not self._is_for_engine(method, path):
            answer.is_without_effect = await run_query(self._world.is_unchanged)
            self._is_stale = answer.status != 302 or not answer.is_without_effect
        return answer

    async def knock(
        self,
        path: str,
        caller: str,
        *,
        patience_s: float,
        drop: Sequence[bytes] = (),
        add: Sequence[tuple[bytes, bytes]] = (),
    ) -> str:
        """Open a WebSocket as one of the callers; return ``open``, or the status or code with which it is refused."""
        await self.freshen()
        headers = [*(header for header in self._world.headers_of(caller) if header[0] not in drop), *add]
        return await open_socket(self.application, path, headers, patience_s)

    def key_of(self, caller: str) -> bytes:
        """The key of one of the callers that have one; to be asked for after `freshen`."""
        return self._world.headers_of(caller)[0][1].removeprefix(b"Bearer ")

    def _is_for_engine(self, method: str, path: str) -> bool:
        """Whether a request changes nothing in Corral: it goes to an engine."""
        is_forwarded = self._gateway._dispatcher.find(path.partition("?")[0]) is not None
        return is_forwarded and "unload" not in path and (method != "DELETE" or path.count("/") > 2)

    @property
    def ids(self) -> dict[str, int]:
        """Numbers of rows, for addresses; to be asked for after `freshen`."""
        return self._world.ids

    async def freshen(self) -> None:
        """Make the world anew if something was changed in it."""
        if self._is_stale:
            await run_query(self._world.build)
            await self._gateway.runtime.look_again()
            self._is_stale = False


def encode(body: object) -> tuple[bytes, bytes]:
    """Return a body and its content type."""
    if body is None:
        return b"", b""
    if isinstance(body, str):
        return body.encode(), b"application/x-www-form-urlencoded"
    return json.dumps(body).encode(), b"application/json"


def make_scope(kind: str, path: str, headers: Headers) -> dict[str, Any]:
    """Return the ASGI scope of a connection from a browser."""
    raw, _, query = path.partition("?")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", HOST.encode()), (b"user-agent", b"Mozilla/5.0 (a browser)"), *headers],
        "client": (str(next(ADDRESSES)), 50000),  # each its own, or wrong keys would be slowed down
        "server": ("127.0.0.1", 8080),
        "state": {},
        "extensions": {},
    }


async def send_request(app: ASGIApp, method: str, path: str, headers: Headers, data: bytes) -> Answer:
    """Send one request; of an endless answer only the head is awaited."""
    answer, leaves, is_sent = Answer(), asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if not is_sent:
            is_sent = True
            return {"type": "http.request", "body": data, "more_body": False}
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            if STREAM.decode() in answer.headers:
                leaves.set()
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                leaves.set()

    async with asyncio.timeout(120):
        # In a context of its own, as in a server: Django leaves variables in it, and copying thousands takes its time.
        await asyncio.create_task(serve(app, {**make_scope("http", path, headers), "method": method}, receive, send))
    return answer


async def serve(app: ASGIApp, scope: Any, receive: Any, send: Any) -> None:
    """Let the application answer."""
    await app(scope, receive, send)


async def open_socket(app: ASGIApp, path: str, headers: Headers, patience_s: float) -> str:
    """Open a WebSocket and leave; return what came first of it, ``open`` if nothing did."""
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    leaves, is_open = asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal is_open
        if not is_open:
            is_open = True
            return {"type": "websocket.connect"}
        await leaves.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        kind = message["type"]
        if outcome.done() or kind in ("websocket.accept", "websocket.http.response.body"):
            return
        if kind == "websocket.http.response.start":
            outcome.set_result(str(message["status"]))
        elif kind == "websocket.close":
            outcome.set_result(str(message.get("code", 1000)))
        else:
            outcome.set_result("open")

    scope = {**make_scope("websocket", path, headers), "subprotocols": []}
    scope["extensions"] = {"websocket.http.response": {}}
    connection = asyncio.ensure_future(app(scope, receive, send))  # type: ignore[arg-type]
    try:
        await asyncio.wait({outcome, connection}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        return outcome.result() if outcome.done() else "open"
    finally:
        leaves.set()
        await asyncio.wait({connection}, timeout=SOON_S)
        connection.cancel()
        await asyncio.gather(connection, return_exceptions=True)
