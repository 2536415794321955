"""llama-server's own paths at the root of the portal, and llama-swap's rewritten ones (its reference, 1.3)."""

from __future__ import annotations

from gateway.errors import GatewayError, wrong_method

_POST = frozenset(("POST",))
_GET = frozenset(("GET", "HEAD"))
_BOTH = _GET | _POST
_METHODS: dict[bytes, frozenset[str]] = {
    b"/completion": _POST,
    b"/completions": _POST,
    b"/chat/completions": _POST,
    b"/responses": _POST,
    b"/embedding": _POST,
    b"/embeddings": _POST,
    b"/infill": _POST,
    b"/rerank": _POST,
    b"/reranking": _POST,
    b"/tokenize": _POST,
    b"/detokenize": _POST,
    b"/apply-template": _POST,
    b"/props": _BOTH,
    b"/slots": _GET,
    b"/lora-adapters": _BOTH,
    b"/audioapi/v1/tasks/run": _POST,
}
_PREFIXES: tuple[tuple[bytes, frozenset[str]], ...] = (
    (b"/slots/", _POST),
    (b"/sdapi/v1/", _BOTH),
    (b"/v/", _POST),
)
_REMOVED = ((b"/v/", b"/"), (b"/audioapi/", b"/"))
"""Prefixes that an engine doesn't know: `/v/chat/completions` is for those whose paths have no version."""
SEGMENTS = frozenset(path.split(b"/")[1].decode() for path in (*_METHODS, *(prefix for prefix, _ in _PREFIXES)))
"""First segments of these paths; other paths at the root are pages."""


def find_native_path(method: str, raw_path: bytes) -> bytes:
    """The path on the engine. Raises `GatewayError` 404 for an unknown path and 405 for a wrong method."""
    path = raw_path.rstrip(b"/") or b"/"
    methods = _METHODS.get(path)
    if methods is None:
        methods = next((allowed for prefix, allowed in _PREFIXES if path.startswith(prefix)), None)
    if methods is None:
        raise GatewayError(404, "not_found", f"There is nothing at {raw_path.decode('latin-1')}")
    if method not in methods:
        raise wrong_method(method, raw_path.decode("latin-1"), ", ".join(sorted(methods - {"HEAD"})))
    for prefix, replacement in _REMOVED:
        if path.startswith(prefix):
            return replacement + path.removeprefix(prefix)
    return path
