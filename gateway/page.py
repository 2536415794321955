"""llama-server's own web page: it is served from the portal's origin, and must not act as a page of the portal.

The page keeps conversations in the browser's storage, which an origin of its own (CSP's `sandbox` alone) would deny to
it, and asks the engine with the visitor's session. So it keeps the origin, and its policy lets it reach nothing but its
own folder: no other address by fetch, form, frame, worker, image or font, no window of the portal, and no redirect,
after which a policy's paths don't hold (CSP 3, 7.6). Whatever a model's answer may smuggle into the page can ask that
model, and no more.
"""

from __future__ import annotations

import re

from gateway.asgi import Headers, Message, Send, find_header
from gateway.exchange import Exchange

_FILE = re.compile(
    rb"(?:/[\w.-]+)*/[\w.-]+"
    rb"\.(?:html|js|mjs|css|map|json|webmanifest|svg|png|jpe?g|gif|webp|ico|woff2?|ttf|wasm)"
)
_HOST = re.compile(rb"[A-Za-z0-9.-]+(?::\d+)?")
_POLICY = (
    "sandbox allow-scripts allow-same-origin allow-downloads allow-modals; default-src 'none'; "
    "script-src 'unsafe-inline' {folder}; style-src 'unsafe-inline' {folder}; img-src data: blob: {folder}; "
    "font-src data: {folder}; media-src data: blob: {folder}; manifest-src {folder}; connect-src {folder}; "
    "worker-src blob:; frame-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PLAIN = [(b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer")]
_LEADING_ELSEWHERE = frozenset((b"location", b"refresh", b"clear-site-data", b"service-worker-allowed"))


def is_page_file(path: bytes) -> bool:
    """Whether a path on the engine is a file of its page: by its extension, which no path of its API has."""
    return not path.startswith(b"/v1/") and _FILE.fullmatch(path if path.startswith(b"/") else b"/" + path) is not None


def confine_page(exchange: Exchange, folder: bytes) -> Headers:
    """The headers that confine the page to `folder`, the percent-encoded path it is served at, with its last slash."""
    host = find_header(exchange.headers, b"host") or b""
    # A host that a policy can't name (an IPv6 address) leaves the page without its files.
    path = folder.decode("latin-1").replace(";", "%3B").replace(",", "%2C")
    allowed = host.decode("latin-1") + path if _HOST.fullmatch(host) else "'none'"
    return [*_PLAIN, (b"content-security-policy", _POLICY.format(folder=allowed).encode("latin-1"))]


def drop_redirects(send: Send) -> Send:
    """A `send` that keeps an engine from leading the browser elsewhere."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [header for header in message["headers"] if header[0] not in _LEADING_ELSEWHERE]
            message = {**message, "headers": kept}
        await send(message)

    return send_on
