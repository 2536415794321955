"""Opening a connection to an instance: ended in time, or when nobody waits for it any more."""

from __future__ import annotations

import asyncio

from gateway.upstream import UpstreamConnection

Endpoint = tuple[str, int]


class UpstreamUnreachable(Exception):
    """An instance could not be dialled; the text says why, `is_timeout` that it didn't answer in time."""

    def __init__(self, reason: str, *, is_timeout: bool = False) -> None:
        super().__init__(reason)
        self.is_timeout = is_timeout


class Dial:
    """One attempt, which begins at once; `finish` must be awaited.

    In place of `asyncio.timeout`, which takes half as much time as connecting does: when hundreds of streams begin in
    one moment, each waits for those before it.
    """

    __slots__ = ("_connecting", "_is_over", "_timer", "is_ended")

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: UpstreamConnection(loop), *endpoint))
        self._timer = loop.call_later(timeout_s, self.end)
        self._is_over = False
        self.is_ended = False
        """Whether it was too late, or `end` was called."""

    def end(self) -> None:
        """Give up. Without effect once there is a connection or none can be had."""
        if not self._is_over and not self._connecting.done():
            self.is_ended = True
            self._connecting.cancel()

    async def finish(self) -> UpstreamConnection:
        """The connection. Raises `UpstreamUnreachable`; `is_timeout` when the attempt was ended."""
        try:
            _, connection = await self._connecting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.is_ended or (task is not None and task.cancelling()):
                raise
            raise UpstreamUnreachable("no connection in time", is_timeout=True) from None
        except OSError as error:
            raise UpstreamUnreachable(error.strerror or str(error)) from error
        except UnicodeError as error:  # the IDNA codec of the look-up: an empty or overlong label
            raise UpstreamUnreachable("its host name can't be one") from error
        finally:
            self._is_over = True
            self._timer.cancel()
            del self._connecting  # it holds the error, whose traceback holds this frame
        return connection
