"""What a page that an engine serves may do in a browser, where it shares its address with the portal's own pages."""

from __future__ import annotations

import re

from gateway.asgi import Headers, Scope, find_header
from gateway.structs import Principal

SANDBOX: Headers = [
    (b"content-security-policy", b"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"),
    (b"x-content-type-options", b"nosniff"),
]
"""An origin of its own, without the portal's cookies."""
_HOST = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_SEGMENT = re.compile(rb"[A-Za-z0-9._~%-]+")
_CONFINED = (
    b"default-src %(base)b 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-src 'none'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_browser(headers: Headers) -> bool:
    """Whether the answer may be shown in a browser: all of them call themselves Mozilla."""
    return (find_header(headers, b"user-agent") or b"").startswith(b"Mozilla/")


def restrict_engine(scope: Scope, principal: Principal | None) -> Headers:
    """The headers that keep what an engine answers from acting as a page of the portal.

    What comes by a session or a key gets an origin of its own. A page for everybody, such as llama-server's, needs the
    browser's storage, so it keeps this origin but reaches nothing outside of its instance's own address.
    """
    if principal is not None and principal.kind == "session":
        return SANDBOX
    if not is_browser(scope["headers"]):
        return []
    if principal is not None and principal.kind != "anonymous":
        return SANDBOX
    host = find_header(scope["headers"], b"host") or b""
    segments = scope["raw_path"].split(b"/")[1:3]
    if not _HOST.fullmatch(host) or len(segments) < 2 or not all(map(_SEGMENT.fullmatch, segments)):
        return SANDBOX
    base = b"%b://%b/%b/" % (scope["scheme"].encode(), host, b"/".join(segments))
    return [(b"content-security-policy", _CONFINED % {b"base": base}), (b"x-content-type-options", b"nosniff")]
