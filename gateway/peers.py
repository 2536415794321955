"""What the other web processes last said about themselves, for decisions that concern all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

CHANNEL = "corral:gateway"
KEY_PREFIX = "corral:gateway:"
_RETRY_S = 1.0
_POLL_S = 5.0


class _Line(msgspec.Struct, frozen=True):
    count: int = 0


class _PeerReport(msgspec.Struct, frozen=True):
    """The part of `gateway.report.GatewayReport` that other processes need."""

    process: str
    in_work: dict[int, int] = {}
    waiting: dict[int, _Line] = {}
    ended: bool = False


class Peers:
    """The newest word of every other living process.

    One not heard of for `lifetime_s` is taken for dead; its requests died with it. `clock` gives monotonic seconds.
    """

    def __init__(self, process: str, *, lifetime_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.process = process
        """The name of this process, whose own reports are passed over."""
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._reports: dict[str, tuple[float, _PeerReport]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._decoder = msgspec.json.Decoder(_PeerReport)

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every report of another process. It must not raise."""
        self._listeners.append(listener)

    @property
    def are_there(self) -> bool:
        """Whether any other process lives."""
        if self._reports:
            oldest = self._clock() - self._lifetime_s
            for process in [name for name, (heard, _) in self._reports.items() if heard < oldest]:
                del self._reports[process]
        return bool(self._reports)

    def count_in_work(self, instance_id: int) -> int:
        """Requests that the others forward to the instance, as far as its limit counts them."""
        if not self.are_there:
            return 0
        return sum(report.in_work.get(instance_id, 0) for _, report in self._reports.values())

    def count_waiting(self, instance_id: int) -> int:
        """Requests that wait for the instance in the other processes."""
        if not self.are_there:
            return 0
        lines = (report.waiting.get(instance_id) for _, report in self._reports.values())
        return sum(line.count for line in lines if line is not None)

    def accept(self, data: bytes | str) -> None:
        """Take in a report; one of another version that can't be read is logged and dropped."""
        try:
            report = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            logger.warning("A report of another web process can't be read: %s", error)
            return
        if report.process == self.process:
            return
        if report.ended:
            self._reports.pop(report.process, None)
        else:
            self._reports[report.process] = (self._clock(), report)
        for listener in self._listeners:
            listener()

    async def listen(self, redis: Redis) -> None:
        """Follow the others' reports until cancelled; begins anew whenever Redis was lost."""
        while True:
            try:
                async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    await self._read_current(redis)
                    while True:
                        message = await pubsub.get_message(timeout=_POLL_S)
                        if message is not None:
                            self.accept(message["data"])
            except (RedisError, OSError) as error:
                logger.debug("The other web processes can't be heard: %s", error)
            await asyncio.sleep(_RETRY_S)

    async def _read_current(self, redis: Redis) -> None:
        """What was said before this process listened."""
        async for key in redis.scan_iter(match=KEY_PREFIX + "*"):
            data = await redis.get(key)
            if data:
                self.accept(data)
