"""Recording requests: kept in memory for a moment, written in batches by one thread, kept longer while that fails."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.accounting.entry import RequestEntry, end_reading, is_recorded, make_entry

if TYPE_CHECKING:
    from gateway.exchange import Exchange

logger = logging.getLogger(__name__)

_LONGEST_RETRY_S = 5.0


class Write(Protocol):
    """Stores entries; called in the recorder's thread."""

    def __call__(self, entries: Sequence[RequestEntry], *, is_retry: bool) -> int:
        """Store all of them or, raising anything, none. Returns how many can never be stored.

        With `is_retry` some may be stored already: the last call was cut off at an unknown moment.
        """


class NoteKeys(Protocol):
    """Keeps that keys were used; called in the recorder's thread."""

    def __call__(self, key_ids: Sequence[int], used_at: float) -> None:
        """Keep that these were used, the last of them at `used_at` (seconds since the epoch). May raise anything."""


class Recorder:
    """Takes exchanges that are over and has them written about once a second.

    While writing fails entries wait, up to `max_entries`; later ones are dropped and counted in `dropped`. An error in
    recording is logged and never reaches the request. `note_keys` hears of keys whose requests make no entry. `close`
    is called in the thread at its end.
    """

    def __init__(
        self,
        *,
        write: Write,
        note_keys: NoteKeys | None = None,
        close: Callable[[], None] | None = None,
        interval_s: float = 1.0,
        max_entries: int = 50_000,
        batch_size: int = 2_000,
    ) -> None:
        self.recorded = 0
        """How many entries were taken, dropped ones excluded."""
        self.written = 0
        self.dropped = 0
        """How many were lost: the bound was reached, the database refused them, or the end came first."""
        self._write = write
        self._note_keys = note_keys
        self._keys_used: dict[int, float] = {}
        """When keys were used for what makes no entry, until the thread has noted it."""
        self._close = close
        self._interval_s = interval_s
        self._max_entries = max_entries
        self._batch_size = batch_size
        self._entries: list[RequestEntry] = []
        self._wake = threading.Event()
        self._is_stopping = False
        self._is_closed = False
        self._is_failing = False
        self._dropped_logged = 0
        self._unsure = 0
        """How many of the first entries were in a batch that failed."""
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many entries are not written yet."""
        return len(self._entries)

    def record(self, exchange: Exchange) -> None:
        """Take an exchange that is over. Quick, and never raises."""
        try:
            end_reading(exchange)
            principal = exchange.principal
            if is_recorded(exchange):
                if len(self._entries) >= self._max_entries or self._is_closed:
                    self.dropped += 1
                else:
                    self._entries.append(make_entry(exchange))
                    self.recorded += 1
            elif principal is not None and principal.key_id is not None:
                self._keys_used[principal.key_id] = time.time()
        except Exception:
            logger.exception("A request could not be recorded")

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="accounting", daemon=True)
            self._thread.start()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Write what is left and end the thread. Entries that can't be written in time are dropped and counted."""
        self._is_stopping = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join, timeout_s)
        self._is_closed = True
        if lost := len(self._entries):
            self.dropped += lost
            logger.error("%d requests were not recorded: the database didn't take them before the end", lost)

    def _run(self) -> None:
        delay_s = self._interval_s
        while not self._is_stopping:
            self._wake.wait(delay_s)
            is_written = self._write_all()
            self._note_keys_used()
            delay_s = self._interval_s if is_written else min(max(delay_s, 0.1) * 2, _LONGEST_RETRY_S)
        self._write_all()  # what has come since, or is left because the last attempt failed
        self._note_keys_used()
        if self._close is not None:
            self._close()

    def _write_all(self) -> bool:
        """Write until nothing is left. Returns False when that failed; what isn't written stays."""
        while count := min(len(self._entries), self._batch_size):
            # A batch that failed is tried again as it was: of others it is sure that they aren't stored.
            count = self._unsure or count
            batch = self._entries[:count]
            try:
                refused = self._write(batch, is_retry=self._unsure > 0)
            except Exception as error:  # noqa: BLE001 - whatever the database driver raises, the entries are kept
                self._unsure = count
                self._note_failure(error)
                return False
            # The event loop may have appended meanwhile; only what was written goes.
            del self._entries[:count]
            self._unsure = 0
            self.written += count - refused
            self.dropped += refused
            self._note_success()
        return True

    def _note_keys_used(self) -> None:
        used = {}
        while self._keys_used:  # the event loop may add meanwhile
            key_id, used_at = self._keys_used.popitem()
            used[key_id] = used_at
        if used and self._note_keys is not None:
            try:
                self._note_keys(list(used), max(used.values()))
            except Exception:
                logger.exception("When keys were last used could not be kept")

    def _note_failure(self, error: Exception) -> None:
        if not self._is_failing:
            logger.warning("Requests can't be recorded at the moment and are kept until they can: %s", error)
        self._is_failing = True
        self._log_dropped()

    def _note_success(self) -> None:
        if self._is_failing:
            logger.info("Requests can be recorded again")
        self._is_failing = False
        self._log_dropped()

    def _log_dropped(self) -> None:
        if dropped := self.dropped - self._dropped_logged:
            self._dropped_logged = self.dropped
            logger.error("%d requests were not recorded (%d since the start)", dropped, self.dropped)
