"""Every address that Corral answers, from the URL configuration, the gateway's catalogue and the log applications."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

from gateway.catalogue import ROUTES
from instances.consumers import websocket_urlpatterns
from tests.authorisation.table import METHODS, SOCKET, Call

VALUES = {
    "name": "alpha",
    "model": "alpha",
    "path": "health",
    "slot": "0",
    "user": "mia",
    "username": "member",
    "team": "research",
    "token": "made-up",
    "uidb64": "made-up",
    "object_id": "1",
    "id": "1",
    "pk": "1",
    "provider_id": "made-up",
    "session_id": "1",
    "content_type_id": "1",
    "app_label": "accounts",
    "url": "nothing/",
}
"""What stands for a variable part of an address. A route with another name for one needs an entry here."""
BODIES: dict[str, object] = {
    "PUT /api/v1/instances/{name}": {"backend_type": "llama_cpp", "backend_options": {}},
    "POST /api/v1/instances/{name}": {"backend_type": "llama_cpp", "backend_options": {}},
    "PATCH /api/v1/instances/{name}": {"group": "big"},
    "PUT /api/v1/instances/{name}/owner": {"owner": "mia"},
    "PUT /api/v1/instances/{name}/shares/users/{user}": {"level": "use"},
    "PUT /api/v1/instances/{name}/shares/teams/{team}": {"level": "use"},
    "POST /api/v1/auth/keys": {"name": "ci", "permission_mode": "allow_all"},
    "PATCH /api/v1/auth/keys/{key_id}": {"name": "ci"},
    "POST /api/v1/quotas": {"user": "mia", "unit": "requests", "window": "day", "limit": 5},
    "PATCH /api/v1/quotas/{pk}": {"limit": 5},
    "POST /limits": "who=user:mia&user=mia&unit=requests&window=day&limit=5",
    "POST /keys/new": "name=ci&kind=inference&permission_mode=allow_all",
    "POST /keys/{pk}": "name=ci&kind=inference&permission_mode=allow_all",
    "POST /api/v1/users": {"username": "nina", "password": "a long pass phrase"},
    "PATCH /api/v1/users/{user_id}": {"role": "operator"},
    "POST /api/v1/teams": {"name": "vision"},
    "PATCH /api/v1/teams/{team_id}": {"name": "vision"},
    "PUT /api/v1/teams/{team_id}/members/{username}": {"manager": False},
    "POST /api/v1/invitations": {"role": "member"},
    "POST /people/invite": "role=member&days=3",
    "POST /people/{user_id}/role": "role=operator",
    "POST /teams": "name=vision",
    "POST /teams/{team_id}/rename": "name=vision",
    "POST /teams/{team_id}/members": "username=member",
    "POST /teams/{team_id}/members/{user_id}/manager": "manages=yes",
    "POST /people/{user_id}/password": "password=a+long+pass+phrase",
    "POST /instances/{name}/sharing": "with=user:mia&level=use",
    "POST /instances/{name}/owner": "owner=mia",
    "POST /instances/{name}/edit": "action=preview&backend_type=llama_cpp",
    "POST /instances/new": "action=preview&backend_type=llama_cpp",
    **{
        f"POST /api/v1/backends/{engine}/parse-command": {"command": "-m a.gguf"}
        for engine in ("llama-cpp", "vllm", "mlx")
    },
    "POST /slots/{slot}": {"model": "alpha"},
}
"""What is sent: JSON, or a text as a form. Without an entry the gateway's routes get ``{"model": "alpha"}``."""
SPECIAL = {
    "POST /api/v1/instances/{name}": {"name": "beta"},
    "GET /llama-cpp/{name}/{path}": {"path": "props"},
    "POST /llama-cpp/{name}/{path}": {"path": "tokenize"},
}
"""Other values for one call: the name of what must not exist yet, paths of which there is a list."""
LOGS = ("/logs", "/logs/stream", "/logs/stream/{name}")
"""What the log applications answer in front of Django, beside ``?follow=true``."""
FOLLOW = "/api/v1/instances/{name}/logs?follow=true"
GATEWAY_SOCKETS = ("/v1/realtime?model={name}", "/upstream/{name}/socket", "/api/v1/instances/{name}/proxy/socket")
"""Where the gateway carries WebSockets (``gateway/sockets.py``)."""
PARTS = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Address:
    """An address as the table names it, and how it is written in a request."""

    route: str
    template: str
    methods: tuple[str, ...] = ()
    """Empty: whichever it answers."""

    def path_for(self, method: str, ids: Mapping[str, int]) -> str:
        """The path and query of a request; ``ids`` are the numbers of rows, by the addresses that name them."""
        values = VALUES | SPECIAL.get(f"{method} {self.route}", {})
        for route, number in ids.items():
            if f"{self.route}/".startswith(f"{route}/"):
                values[route[route.rindex("{") + 1 : -1]] = str(number)
        missing = set(re.findall(r"{(\w+)}", self.template)) - set(values)
        assert not missing, (
            f"{self.route}: add a value for {missing} to VALUES in tests/authorisation/routes.py, "
            "or the row that it numbers to `World.ids` in tests/authorisation/world.py"
        )
        return re.sub(r"{(\w+)}", lambda match: quote(values[match[1]], safe="/"), self.template)


def walk(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    """Yield the templates of all patterns below."""
    for pattern in patterns:
        text = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, text)
        else:
            yield PARTS.sub(r"{\1}", simplify_regex(text))


def django_addresses() -> list[Address]:
    """Return what Django answers; of several forms of an address (with a slash at its end, or none) the first."""
    found: dict[str, Address] = {}
    for template in walk(get_resolver().url_patterns):
        route = template.rstrip("/") or "/"
        found.setdefault(route, Address(route, template))
    return [address for address in found.values() if not address.route.startswith("/api{")]  # whatever isn't there


def gateway_addresses() -> list[Address]:
    """Return what the gateway answers."""
    return [Address(route.path.rstrip("/") or "/", route.path, route.methods) for route in ROUTES]


def log_addresses() -> list[Address]:
    """Return what the log applications answer."""
    return [Address(route, route, ("GET",)) for route in (*LOGS, FOLLOW)]


def socket_addresses() -> list[Address]:
    """Return where WebSockets are."""
    own = ["/" + PARTS.sub(r"{\1}", str(pattern.pattern)) for pattern in websocket_urlpatterns]
    return [Address(route, route, (SOCKET,)) for route in (*own, *GATEWAY_SOCKETS)]


def is_admin_site(route: str) -> bool:
    """Whether an address belongs to Django's admin site, whose pages have one row together."""
    return route == "/admin" or route.startswith("/admin/")


def all_addresses() -> list[Address]:
    """Return every address once; the gateway's come first, as it is asked first."""
    found: dict[str, Address] = {}
    for address in (*gateway_addresses(), *log_addresses(), *django_addresses()):
        if address.route in found and not address.methods:
            continue  # the gateway answers it before Django sees it
        found[address.route] = address
    return list(found.values())


def list_calls(address: Address) -> list[Call]:
    """Return an address with each method that it may answer."""
    return [Call(method, address.route) for method in address.methods or METHODS]
