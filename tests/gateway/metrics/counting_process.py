"""A process that counts: ``python counting_process.py REDIS_URL``; each line on stdin is a number of requests.

It answers each line with "counted", and SIGTERM ends it as a web process ends.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from redis.asyncio import Redis

from gateway.metrics import Metrics, store
from gateway.report import name_process
from tests.gateway.metrics.exchanges import Done, make_routes


async def main(redis_url: str) -> None:
    """Count until SIGTERM."""
    # Every write asks Redis and keeps a copy.
    store.CONTACT_INTERVAL_S = store.COPY_INTERVAL_S = 0.0
    metrics = Metrics(make_routes(), name_process())
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with Redis.from_url(redis_url) as redis:
        task = asyncio.create_task(metrics.run(redis))
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        print("counting", flush=True)
        counting = asyncio.create_task(count(reader, metrics))
        await asyncio.wait({task})
        counting.cancel()


async def count(reader: asyncio.StreamReader, metrics: Metrics) -> None:
    while line := await reader.readline():
        for _ in range(int(line)):
            metrics.observe(Done())
        print("counted", flush=True)


asyncio.run(main(sys.argv[1]))
