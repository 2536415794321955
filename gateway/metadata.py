"""Requests that only look at an engine: they take no place, and they keep it from no idleness."""

from __future__ import annotations

_PATHS = frozenset((b"/health", b"/v1/health", b"/models", b"/v1/models", b"/props", b"/metrics", b"/slots"))


def asks_for_metadata(method: str, path: bytes) -> bool:
    """Whether a request only looks at an engine's health or metadata. `path` is the engine's own, percent-encoded."""
    return method in ("GET", "HEAD") and path.rstrip(b"/") in _PATHS
