"""What the gateway needs to know from the settings, as plain values."""

from __future__ import annotations

import msgspec


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits, times and switches of the gateway. Times are seconds, sizes bytes. Built once at start; never changes."""

    require_inference_auth: bool = True
    """False lets anybody use every instance through `/v1`."""
    require_management_auth: bool = True
    """False lets anybody use `/api/v1/instances/{name}/proxy`."""
    has_metrics: bool = True
    """Whether requests are counted for `/metrics`."""
    allowed_origins: tuple[str, ...] = ("*",)
    """Origins that browsers may call from; `*` stands for all, an empty tuple for none."""
    max_body_bytes: int = 64 * 1024 * 1024
    """Largest request body that is held in memory to find its model; larger ones are refused with 413."""
    max_upload_bytes: int = 4 * 1024**3
    """Largest form with files; what must be held of it goes to a temporary file."""
    spool_folder: str | None = None
    """Where those files go; None means the system's place for temporary files."""
    body_memory_bytes: int = 512 * 1024 * 1024
    """What the bodies that are being held may take in all; requests beyond it are refused with 503."""
    queue_limit: int = 100
    """Requests that may wait for one instance, over all web processes; the next one is refused with 429."""
    on_demand_start_timeout_s: float = 120.0
    """How long a request waits for its instance before it is refused with 503."""
    connect_timeout_s: float = 5.0
    """How long dialling an instance may take."""
    upstream_idle_timeout_s: float = 20.0
    """Idle connections are closed after this, or sooner at an instance that was seen to close one sooner. A host that
    vanishes without a word is noticed by dialling it, not on a connection that was idle."""
    max_idle_connections: int = 256
    """Idle connections kept for one instance."""
    principal_refresh_age_s: float = 2.5
    """A cached key is looked up again after this even if no event said that it changed (events may be lost)."""
    principal_max_age_s: float = 30.0
    """Until then no request waits for that, as long as events come. Who comes back after a pause with hundreds of
    requests at once would have most of them wait, and served in tasks of their own."""
    principal_cache_size: int = 100_000
    """Keys remembered by one process; the oldest is forgotten first."""
    redis_answer_within_s: float = 0.5
    """How long a request to a limited instance waits for Redis; then each process goes by what it knows itself."""
    peer_lifetime_s: float = 3.0
    """A web process not heard of for so long is taken for dead by the others; each reports once a second."""
    refresh_interval_s: float = 2.0
    """How often the routes are read again even if no event said that they changed."""
