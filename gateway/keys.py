"""From a request's credential to a principal, with no query for a key that was seen a moment ago."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

import msgspec

from accounts.credentials import read_keys
from gateway.asgi import Headers
from gateway.errors import GatewayError
from gateway.structs import Principal

logger = logging.getLogger(__name__)

LookUp = Callable[[str], Awaitable[Principal | None]]
_OUTAGE_GRACE_S = 60.0
"""While the database is away."""
_NEGATIVE_CACHE_SIZE = 10_000
_STRANGERS_AT_ONCE = 2
"""Look-ups of keys that were never found valid which may run at once; fewer than there are threads for the database."""


def read_credential(headers: Headers, query: bytes) -> bytes | None:
    """The API key of a request that counts first, or None."""
    presented = read_keys(headers, query)
    return presented.password or presented.key


def drop_query_key(query: bytes) -> bytes:
    """`query` without its `api_key` fields, in whichever case and encoding; the rest stays byte for byte."""
    if b"%" not in query and b"api_key" not in query.lower():
        return query
    return b"&".join(field for field in query.split(b"&") if not _is_key_field(field))


def _is_key_field(field: bytes) -> bool:
    return unquote_to_bytes(field.partition(b"=")[0]).strip().lower() == b"api_key"


def hash_key(credential: bytes) -> str:
    """The SHA-256 of a key in hex, as it is stored. Keys carry 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(credential).hexdigest()


class _Entry(msgspec.Struct):
    principal: Principal | None
    read_at: float


class KeyCache:
    """Principals by the hash of their key.

    `look_up` finds a principal outside (a query); one look-up serves every request that waits for the same key. A
    valid key that was read `refresh_age_s` ago is read again in the background by the next request, which does not
    wait; after `max_age_s` it does, and after twice `refresh_age_s` where `hears_of_changes` says that nobody would
    `clear` the cache for a change. While look-ups fail, what was known is used until it is a minute old. That a key
    isn't valid is believed for `refresh_age_s`.

    Whoever sends a flood of made-up keys can't know one that was valid before: look-ups of such keys pass by the line
    in which those of strangers wait, first come, first served. That holds after `clear` too.
    """

    def __init__(
        self,
        look_up: LookUp,
        *,
        refresh_age_s: float,
        max_age_s: float,
        max_entries: int,
        hears_of_changes: Callable[[], bool],
    ) -> None:
        self._look_up = look_up
        self._hears_of_changes = hears_of_changes
        self._refresh_age_s = refresh_age_s
        self._max_age_s = max_age_s
        self._max_entries = max_entries
        self._known: dict[str, _Entry] = {}
        self._unknown: dict[str, _Entry] = {}
        self._pending: dict[str, asyncio.Task[Principal | None]] = {}
        self._acquainted: dict[str, None] = {}
        """Digests of keys that were valid when they were last read, the newest last."""
        self._strangers = asyncio.Semaphore(_STRANGERS_AT_ONCE)
        self._generation = 0

    def clear(self) -> None:
        """Forget everything: some key, user or permission changed. Look-ups under way are not remembered either."""
        self._generation += 1
        self._known.clear()
        self._unknown.clear()
        self._pending.clear()

    def recall(self, digest: str) -> Principal | None:
        """The principal of a key that was found valid a moment ago; None says only that it must be looked up."""
        entry = self._known.get(digest)
        if entry is None:
            return None
        age = time.monotonic() - entry.read_at
        if age > self._refresh_age_s:
            if age >= (self._max_age_s if self._hears_of_changes() else 2 * self._refresh_age_s):
                return None
            if digest not in self._pending:
                self._start_look_up(digest)
        principal = entry.principal
        return principal if principal is None or principal.expires_at is None else _unless_expired(principal)

    async def find_principal(self, credential: bytes) -> Principal | None:
        """The principal of the key, or None when it isn't valid (any more).

        Raises `GatewayError` 503 when the key isn't known here and can't be looked up.
        """
        digest = hash_key(credential)
        principal = self.recall(digest)
        if principal is not None:
            return principal
        unknown = self._unknown.get(digest)
        if unknown is not None and time.monotonic() - unknown.read_at < self._refresh_age_s:
            return None
        return _unless_expired(await self._wait_for_look_up(digest))

    async def _wait_for_look_up(self, digest: str) -> Principal | None:
        known = self._known.get(digest)
        while True:
            generation = self._generation
            task = self._pending.get(digest) or self._start_look_up(digest)
            try:
                principal = await asyncio.shield(task)
            except Exception as error:
                if known is not None and time.monotonic() - known.read_at < _OUTAGE_GRACE_S:
                    return known.principal
                message = "The API key can't be checked at the moment; try again"
                raise GatewayError(503, "keys_unavailable", message, retry_after_s=2) from error
            if generation == self._generation:
                return principal
            # What was read may be older than the change that emptied the cache.
            known = None

    def _start_look_up(self, digest: str) -> asyncio.Task[Principal | None]:
        task = asyncio.create_task(self._read(digest, self._generation))
        self._pending[digest] = task
        task.add_done_callback(_note_failure)
        return task

    async def _read(self, digest: str, generation: int) -> Principal | None:
        try:
            if digest in self._acquainted:
                return await self._read_now(digest, generation)
            async with self._strangers:
                # After `clear` nobody waits for this answer any more.
                return await self._read_now(digest, generation) if generation == self._generation else None
        finally:
            if generation == self._generation:
                self._pending.pop(digest, None)

    async def _read_now(self, digest: str, generation: int) -> Principal | None:
        read_at = time.monotonic()
        principal = await self._look_up(digest)
        if generation == self._generation:
            self._remember(digest, _Entry(principal, read_at))
        return principal

    def _remember(self, digest: str, entry: _Entry) -> None:
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        self._acquainted.pop(digest, None)
        if entry.principal is not None:
            self._acquainted[digest] = None
            while len(self._acquainted) > self._max_entries:
                del self._acquainted[next(iter(self._acquainted))]
        table, limit = (self._known, self._max_entries) if entry.principal else (self._unknown, _NEGATIVE_CACHE_SIZE)
        while len(table) >= limit:
            del table[next(iter(table))]
        table[digest] = entry


def _unless_expired(principal: Principal | None) -> Principal | None:
    if principal is not None and principal.expires_at is not None and principal.expires_at <= time.time():
        return None
    return principal


def _note_failure(task: asyncio.Task[Principal | None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("An API key could not be looked up: %s", error)
