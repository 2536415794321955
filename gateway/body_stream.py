"""A request body that comes in pieces, with what had to be read before it could go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.spool import Spool


class Splice:
    """Replaces the bytes from `start` to `end` of a stream; `edit` gets its pieces one after the other.

    Where both are the same, it inserts.
    """

    def __init__(self, start: int, end: int, replacement: bytes) -> None:
        self._start = start
        self._end = end
        self._replacement = replacement
        self._position = 0

    @property
    def growth(self) -> int:
        """By how many bytes the stream gets longer."""
        return len(self._replacement) - (self._end - self._start)

    def edit(self, piece: bytes) -> bytes:
        """The piece as it goes on; empty when all of it was replaced."""
        begin = self._position
        self._position += len(piece)
        if begin >= max(self._end, self._start + 1) or self._position <= self._start:
            return piece
        before = piece[: max(self._start - begin, 0)]
        after = piece[self._end - begin :] if self._position > self._end else b""
        return before + (self._replacement if begin <= self._start else b"") + after


class BodyStream:
    """The rest of an exchange's request body.

    `inspect` sees every piece as it comes and may raise `GatewayError`. More than `limit_bytes` in all are refused.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        spool: Spool | None = None,
        limit_bytes: int | None = None,
        inspect: Callable[[bytes], None] | None = None,
    ) -> None:
        self._receive = exchange.receive
        self._spool = spool or Spool(may_use_disk=False)
        self._limit_bytes = limit_bytes
        self._inspect = inspect
        self._splice: Splice | None = None
        self._received_bytes = 0
        self._failure: GatewayError | None = None
        self.has_ended = False
        """Whether all of the body has come; a part may still be held."""

    @property
    def is_on_disk(self) -> bool:
        """Whether more is held than memory may hold."""
        return self._spool.is_on_disk

    @property
    def is_in_memory(self) -> bool:
        """Whether the whole body is here, none of it on disk."""
        return self.has_ended and not self._spool.is_on_disk

    def replace(self, splice: Splice) -> None:
        """Hand the body out with a part replaced. Nothing may have been taken yet."""
        self._splice = splice

    async def read_more(self) -> bytes | None:
        """The next piece, None at the end. Raises `ClientGone` and `GatewayError`; not beside `keep_reading`."""
        held = await self.take_held()
        if held is not None or self.has_ended:
            return held
        return self._edit(await self._receive_piece())

    async def take_held(self) -> bytes | None:
        """The next piece of what is held already, None when nothing is. Raises `GatewayError`."""
        held = await self._spool.take()
        return None if held is None else self._edit(held)

    def take_all(self) -> bytes:
        """The whole body, which must be in memory."""
        pieces = []
        while (piece := self._spool.take_from_memory()) is not None:
            pieces.append(self._edit(piece))
        return b"".join(pieces)

    async def read_ahead(self) -> None:
        """Receive one piece and hold it. Raises `ClientGone` and `GatewayError`."""
        self._spool.put(await self._receive_piece())
        await self._spool.settle()

    async def keep_reading(self) -> NoReturn:
        """Receive and hold what comes until the client goes, which raises `ClientGone`; `GatewayError` as it may be.

        Meant to run in a task while the body can't go on; cancel it then, nothing is lost by that.
        """
        await self._spool.settle()
        while not self.has_ended:
            await self.read_ahead()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    async def _receive_piece(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self.has_ended = not message.get("more_body", False)
        try:
            self._check(piece)
        except GatewayError as error:
            self._failure = error
            self.has_ended = False
            raise
        return piece

    def _check(self, piece: bytes) -> None:
        self._received_bytes += len(piece)
        if self._limit_bytes is not None and self._received_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        if self._inspect is not None:
            self._inspect(piece)

    def _edit(self, piece: bytes) -> bytes:
        return piece if self._splice is None else self._splice.edit(piece)


def too_large(limit_bytes: int) -> GatewayError:
    """The refusal of a body beyond a limit."""
    return GatewayError(413, "request_too_large", f"The request body is larger than {limit_bytes} bytes")
