"""Places at instances with a `concurrency_limit`, over all web processes.

A place is held from the moment a request is let in until its answer has ended; requests that wait for a start hold
none, and questions about health and metadata need none. A process on its own counts in memory. With several, each
place is asked for in Redis, where a script compares and counts in one step, so the limit holds exactly whichever
processes race: one round trip for a request to a limited instance, shared by all that ask at the same time, and none
for any other request. While Redis is away each process goes by its own count and what the others last reported, and
when it has forgotten them (3 s), by its own alone: then the limit holds for each process by itself. Requests let in
before a limit was set don't count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.broker import end_task, wait_within
from gateway.exchange import Exchange
from gateway.peers import KEY_PREFIX, Peers
from gateway.structs import Route

logger = logging.getLogger(__name__)

PLACES_PREFIX = "corral:places:"
_LIFETIME_S = 60
_RETRY_S = 0.5
_SAY_AGAIN_S = 1.0
_LOOK_AGAIN_S = 0.25

# KEYS[1]: hash of one instance, process -> places it holds. ARGV: this process, places it holds, places it asks for,
# the limit, the prefix of the processes' reports (a process without a report is dead), seconds to keep the hash.
# Returns how many of the places asked for are granted.
_SCRIPT = """
local held = redis.call('HGETALL', KEYS[1])
local others = 0
for i = 1, #held, 2 do
  if held[i] ~= ARGV[1] then
    if redis.call('EXISTS', ARGV[5] .. held[i]) == 1 then
      others = others + tonumber(held[i + 1])
    else
      redis.call('HDEL', KEYS[1], held[i])
    end
  end
end
local granted = math.max(0, math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - others - tonumber(ARGV[2])))
local own = tonumber(ARGV[2]) + granted
if own > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], own)
  redis.call('EXPIRE', KEYS[1], ARGV[6])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return granted
"""

_Question = tuple[int, int, "asyncio.Future[bool]"]


class Limits:
    """Gives out places. Without Redis (None) for a gateway that has no company.

    When Redis has not answered within `answer_within_s`, this process goes by what it knows until Redis answers again.
    """

    def __init__(self, peers: Peers, redis: Redis | None = None, *, answer_within_s: float = 0.5) -> None:
        self.peers = peers
        self._redis = redis
        self._answer_within_s = answer_within_s
        self._in_work: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._questions: deque[_Question] = deque()
        self._unsaid: set[int] = set()
        self._is_failing = redis is None
        self._wanted = asyncio.Event()
        self._news: asyncio.Event | None = None
        peers.add_listener(self._hear)

    def report(self) -> dict[int, int]:
        """The places held by this process, by instance id."""
        return dict(self._in_work)

    async def take(self, route: Route) -> bool:
        """Take a place at the instance if one is free; `give_back` it when done.

        Counted before anything is awaited, so no two requests of this process take the same place; returns without
        awaiting when there are no other processes.
        """
        instance_id, limit = route.instance_id, route.concurrency_limit
        own = self._in_work.get(instance_id, 0) + self._asked.get(instance_id, 0)
        if own >= limit:
            return False
        if not self.peers.are_there or self._is_failing:
            if own + self.peers.count_in_work(instance_id) >= limit:
                return False
            self._hold(instance_id)
            self._unsaid.add(instance_id)
            return True
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[instance_id] = self._asked.get(instance_id, 0) + 1
        self._questions.append((instance_id, limit, answer))
        self._wanted.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.result():
                self.give_back(instance_id)
            raise

    def give_back(self, instance_id: int) -> None:
        """A place is free again."""
        left = self._in_work[instance_id] - 1
        if left:
            self._in_work[instance_id] = left
        else:
            del self._in_work[instance_id]
        self._unsaid.add(instance_id)
        if self.peers.are_there:
            self._wanted.set()
        self._tell()

    def leave(self, exchange: Exchange) -> None:
        """Give back the exchange's place if it holds one; for every exchange that is over."""
        admission = exchange.admission
        if admission is not None and admission.place:
            instance_id, admission.place = admission.place, 0
            self.give_back(instance_id)

    async def wait_news(self, timeout_s: float = _LOOK_AGAIN_S) -> None:
        """Return when a place may have become free, here or elsewhere, or after the time."""
        if self._news is None:
            self._news = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Listen to the other processes, keep Redis informed and ask it, until cancelled; closes the connections."""
        if self._redis is None:
            return
        listening = asyncio.create_task(self.peers.listen(self._redis), name="gateway-peers")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SAY_AGAIN_S):
                        await self._wanted.wait()
                self._wanted.clear()
                if not self.peers.are_there:
                    self._answer_alone()
                else:
                    self._unsaid.update(self._in_work)  # Redis may have been emptied
                    if not await self._talk(self._redis):
                        await asyncio.sleep(_RETRY_S)
        finally:
            self._is_failing = True
            self._answer_alone()
            await end_task(listening)
            await self._redis.aclose()

    def _hold(self, instance_id: int) -> None:
        self._in_work[instance_id] = self._in_work.get(instance_id, 0) + 1

    def _hear(self) -> None:
        if self._unsaid:
            # Counted in memory only, while there was nobody else; a newcomer will ask Redis.
            self._wanted.set()
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()

    async def _talk(self, redis: Redis) -> bool:
        """Ask all that is asked now in one go, and say what changed. Returns whether Redis answered."""
        questions = list(self._questions)
        self._questions.clear()
        limits: dict[int, int] = {instance_id: limit for instance_id, limit, _ in questions}
        wanted = {instance_id: sum(question[0] == instance_id for question in questions) for instance_id in limits}
        concerned = [*limits, *(self._unsaid - limits.keys())]
        if not concerned and not self._is_failing:
            return True
        self._unsaid.clear()
        asked = [(one, wanted.get(one, 0), limits.get(one, 0)) for one in concerned]
        try:
            answer = await wait_within(asyncio.create_task(self._ask_redis(redis, asked)), self._answer_within_s)
            granted = dict(zip(concerned, answer, strict=True))
        except (RedisError, OSError, TimeoutError) as error:
            if not self._is_failing:
                logger.warning("Places can't be asked for in Redis; each web process counts for itself: %s", error)
            self._is_failing = True
            self._unsaid.update(concerned)
            self._questions.extendleft(reversed(questions))
            self._answer_alone()
            return False
        except asyncio.CancelledError:
            self._questions.extendleft(reversed(questions))
            raise
        if self._is_failing:
            logger.info("Places are asked for in Redis again")
            self._unsaid.update(concerned)  # an older question may be carried out only now, after this one
        self._is_failing = False
        for instance_id, _, future in questions:
            has_place = granted[instance_id] > 0
            granted[instance_id] -= has_place
            self._settle(instance_id, future, has_place=has_place)
        return True

    async def _ask_redis(self, redis: Redis, questions: list[tuple[int, int, int]]) -> list[int]:
        """How many places are granted, for each instance with the places asked for and its limit."""
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.ping()
            for instance_id, wanted, limit in questions:
                key, held = f"{PLACES_PREFIX}{instance_id}", self._in_work.get(instance_id, 0)
                pipeline.eval(_SCRIPT, 1, key, self.peers.process, held, wanted, limit, KEY_PREFIX, _LIFETIME_S)
            _, *granted = await pipeline.execute()
        return granted

    def _answer_alone(self) -> None:
        """Answer by what is known here."""
        while self._questions:
            instance_id, limit, answer = self._questions.popleft()
            known = self._in_work.get(instance_id, 0) + self.peers.count_in_work(instance_id)
            self._settle(instance_id, answer, has_place=known < limit)

    def _settle(self, instance_id: int, answer: asyncio.Future[bool], *, has_place: bool) -> None:
        left = self._asked[instance_id] - 1
        if left:
            self._asked[instance_id] = left
        else:
            del self._asked[instance_id]
        if has_place:
            self._hold(instance_id)
            if answer.done():  # who asked has gone
                self.give_back(instance_id)
        if not answer.done():
            answer.set_result(has_place)
