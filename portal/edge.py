"""What stands between the network and the application: whom to believe, which names it answers to, what pages may do.

Each part costs nothing where nothing is configured, as every request to a model passes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from django.http.request import split_domain_port, validate_host

from gateway.asgi import Headers, Message, Receive, Scope, Send, find_header

FORWARDED = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"))
"""What a reverse proxy says about the request that it passes on; anybody could send it."""
SECURE = {"http": "https", "ws": "wss"}
PLAIN = {secure: plain for plain, secure in SECURE.items()}
WRONG_HOST = "Corral does not answer to this host name. An administrator can add it to CORRAL_ALLOWED_HOSTS."
PERMISSIONS = (
    b"camera=(), display-capture=(), geolocation=(), hid=(), microphone=(), midi=(), payment=(), serial=(), usb=()"
)
DEFAULTS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", PERMISSIONS),
]
"""What an answer to a browser says unless it says something else; pages and engines have policies of their own."""
BODY_LIMIT = 12 * 2**20
"""Bytes of a request for a page or the management API: 10 MiB of JSON, and what a form puts around a file."""


class Edge:
    """Admits connections. ``is_https``: everybody comes over TLS, which something in front ends."""

    def __init__(self, *, trusted_proxies: Iterable[str], is_https: bool, allowed_hosts: Iterable[str]) -> None:
        self._proxies: list[IPv4Network | IPv6Network] = [ip_network(text, strict=False) for text in trusted_proxies]
        self._is_https = is_https
        self._hosts = [] if "*" in (hosts := list(allowed_hosts)) else hosts
        self._trusts = lru_cache(1000)(self._look_up)
        self.is_open = not (self._proxies or self._is_https or self._hosts)
        """Whether there is nothing to do."""

    def admit(self, scope: Scope) -> Refusal | None:
        """Correct what the scope says of the client; return why the connection goes no further, if it doesn't.

        Admitting the same scope again changes nothing more.
        """
        if self._proxies:
            self._believe(scope)
        elif self._is_https:
            scope["scheme"] = SECURE.get(scope["scheme"], scope["scheme"])
        if self._hosts:
            host = (find_header(scope["headers"], b"host") or b"").decode("latin-1")
            name, _ = split_domain_port(host)
            if not name or not validate_host(name, self._hosts):
                return Refusal(400, "invalid_host", WRONG_HOST)
        return None

    def _believe(self, scope: Scope) -> None:
        """Take the client, the scheme and the host from a trusted proxy's headers; drop them from anybody's."""
        headers: Headers = scope["headers"]
        said = [header for header in headers if header[0] in FORWARDED]
        if not said:
            return
        kept = [header for header in headers if header[0] not in FORWARDED]
        client = scope.get("client")
        if client and self._trusts(client[0]):
            if address := self._find_client(said):
                scope["client"] = (address, 0)
            scheme = last_word(said, b"x-forwarded-proto").lower()
            if scheme in ("http", "https"):
                names = SECURE if scheme == "https" else PLAIN
                scope["scheme"] = names.get(scope["scheme"], scope["scheme"])
            if host := last_word(said, b"x-forwarded-host"):
                kept = [header for header in kept if header[0] != b"host"]
                kept.insert(0, (b"host", host.encode("latin-1")))
        scope["headers"] = kept

    def _find_client(self, said: Headers) -> str:
        """The last address that no trusted proxy has; what stands before it, anybody may have written."""
        words = ",".join(value.decode("latin-1") for name, value in said if name == b"x-forwarded-for").split(",")
        found = ""
        for word in reversed(words):
            address = read_address(word)
            if not address:
                break
            found = address
            if not self._trusts(address):
                break
        return found

    def _look_up(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._proxies)


def last_word(said: Headers, name: bytes) -> str:
    """The last of a header's values: the one that the proxy in front of us wrote."""
    values = [value.decode("latin-1") for key, value in said if key == name]
    return values[-1].rpartition(",")[2].strip() if values else ""


def read_address(word: str) -> str:
    """An address without the port that some proxies write behind it, or an empty text."""
    text = word.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def restrict_answer(send: Send) -> Send:
    """Return a ``send`` that adds what an answer to a browser does not say by itself."""

    async def send_restricted(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = {name.lower() for name, _ in message["headers"]}
            headers = [*message["headers"], *(header for header in DEFAULTS if header[0] not in said)]
            message = {**message, "headers": headers}
        await send(message)

    return send_restricted


class Refusal(Exception):
    """A connection that goes no further; the message is for people."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class BodyTooLarge(Refusal):
    """More came than a page or the management API takes."""

    def __init__(self) -> None:
        super().__init__(413, "body_too_large", f"The body is larger than {BODY_LIMIT // 2**20} MiB.")


def bound_body(scope: Scope, receive: Receive) -> Receive:
    """Return a ``receive`` that raises BodyTooLarge beyond ``BODY_LIMIT``; raise it at once for an announced length.

    Django would write whatever comes to the disk before it looks at it.
    """
    length = find_header(scope["headers"], b"content-length") or b"0"
    if length.isdigit() and int(length) > BODY_LIMIT:
        raise BodyTooLarge
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > BODY_LIMIT:
                raise BodyTooLarge
        return message

    return receive_bounded


async def refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    """Refuse a connection with a sentence: JSON below ``/api/``, else text; a WebSocket before its handshake."""
    sentence = str(refusal)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + refusal.status, "reason": sentence[:120]})
        return
    is_api = scope["path"].startswith("/api/")
    text = f'{{"error":"{refusal.code}","details":"{sentence}"}}\n' if is_api else f"{sentence}\n"
    headers: Headers = [
        (b"content-type", b"application/json" if is_api else b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
