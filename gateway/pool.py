"""Idle connections to the instances, by address."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection

from gateway.dial import Dial, Endpoint
from gateway.upstream import UpstreamConnection

SWEEP_S = 1.0
"""From one look at idle connections to the next."""
_SHARE = 0.8
"""Of the time for which an instance keeps idle connections: a request shall not meet one that is just being closed."""
_LEAST_S = 1.0
"""An instance that closed a connection sooner was stopping, or closes so soon that it makes no difference."""
FORGET_S = 600.0
"""What was seen of an instance counts for so long; it may have been a restart."""


class ConnectionPool:
    """Hands out connections and takes them back. The one used last goes out first, so surplus ones age away.

    They age sooner at an instance that was seen to close one: llama-server and uvicorn (vLLM) do so after 5 s, Go
    programs (Ollama) never.
    """

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, max_idle: int) -> None:
        self.connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_idle = max_idle
        self._idle: dict[Endpoint, deque[UpstreamConnection]] = {}
        self._learned: dict[Endpoint, tuple[float, float]] = {}
        """How long connections may be idle, and when that is forgotten, where a close was seen."""
        self._sweep: asyncio.TimerHandle | None = None

    def take_idle(self, endpoint: Endpoint, now_s: float) -> UpstreamConnection | None:
        """A connection that was used before, or None. `now_s` is a monotonic time, a little past at most."""
        idle = self._idle.get(endpoint)
        while idle:
            connection = idle.pop()
            if now_s - connection.idle_since < self._get_limit(endpoint, now_s) and connection.is_usable(now_s):
                return connection
            self._drop(endpoint, connection, now_s)
        return None

    def dial(self, endpoint: Endpoint, timeout_s: float = 0) -> Dial:
        """Begin to open a new connection, for `timeout_s` at most, or the pool's own time when that is 0."""
        return Dial(endpoint, timeout_s or self.connect_timeout_s)

    def give_back(self, endpoint: Endpoint, connection: UpstreamConnection, now_s: float) -> None:
        """End an exchange at this monotonic time: keep the connection if it can carry another one, else close it."""
        if not connection.release(now_s):
            connection.abort()
            return
        idle = self._idle.get(endpoint)
        if idle is None:
            idle = self._idle[endpoint] = deque()
        idle.append(connection)
        if len(idle) > self._max_idle:
            idle.popleft().abort()
        if self._sweep is None:
            self._schedule_sweep()

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        """Close the idle connections to every other address: what listened there is gone or about to go."""
        for endpoint in self._idle.keys() - endpoints:
            for connection in self._idle.pop(endpoint):
                connection.abort()
        for endpoint in self._learned.keys() - endpoints:
            del self._learned[endpoint]

    def close(self) -> None:
        """Close every idle connection."""
        self.retain(())
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def count_idle(self, endpoint: Endpoint) -> int:
        """How many connections wait for work."""
        return sum(not connection.is_lost for connection in self._idle.get(endpoint, ()))

    def _get_limit(self, endpoint: Endpoint, now_s: float) -> float:
        limit_s, until_s = self._learned.get(endpoint, (self._idle_timeout_s, now_s))
        return limit_s if now_s < until_s else self._idle_timeout_s

    def _drop(self, endpoint: Endpoint, connection: UpstreamConnection, now_s: float) -> None:
        """Close one that was idle for too long, or that the instance has closed: and learn from that."""
        limit_s, kept_s = self._get_limit(endpoint, now_s), connection.kept_s
        if kept_s is not None and kept_s < limit_s:
            self._learned[endpoint] = min(limit_s, max(_LEAST_S, kept_s * _SHARE)), now_s + FORGET_S
        connection.abort()

    def _schedule_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(min(SWEEP_S, self._idle_timeout_s), self._close_aged)

    def _close_aged(self) -> None:
        self._sweep = None
        now_s = time.monotonic()
        for endpoint, idle in list(self._idle.items()):
            while idle and (idle[0].is_lost or now_s - idle[0].idle_since >= self._get_limit(endpoint, now_s)):
                self._drop(endpoint, idle.popleft(), now_s)
            if not idle:
                del self._idle[endpoint]
        if self._idle:
            self._schedule_sweep()
