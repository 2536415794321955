"""The node's part of the metrics: a sample of host, GPUs and processes in Redis, and counts of what happened.

Every five seconds the key ``corral:node-metrics:<node>`` is set to JSON as ``gateway/metrics/samples.py`` reads it, to
expire after 30 s: a node whose supervisor ended disappears from the metrics. Looking happens in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from instances.logs.cancellation import keep_cancellation
from instances.supervisor.actor import InstanceActor
from instances.supervisor.containers import ContainerProcesses
from instances.supervisor.counting import EventCounter
from instances.supervisor.database import DatabaseRunner
from instances.supervisor.gpus import GpuReader
from instances.supervisor.host import HostReader
from instances.supervisor.process_tree import RunningTree, read_tree

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
LIFETIME_S = 30


class NodeSampler:
    """Looks at the node. Everything happens in the thread that made it."""

    def __init__(self, gpus: GpuReader | None = None) -> None:
        self._host = HostReader()
        self._gpus = gpus or GpuReader()
        self._containers = ContainerProcesses()

    def take_sample(self, node: str, trees: Sequence[RunningTree]) -> dict[str, Any]:
        """Return the sample, ready to become JSON."""
        gpus = self._gpus.read_gpus()
        engines = self._containers.find({tree.run_dir for tree in trees if tree.run_dir is not None})
        uses = {
            tree.instance_id: use
            for tree in trees
            if (use := read_tree(tree, gpus, engines.get(tree.run_dir))) is not None
        }
        shown = [{name: value for name, value in gpu.items() if name != "processes"} for gpu in gpus]
        return {"node": node, "sampled_at": time.time(), **self._host.read_host(), "gpus": shown, "instances": uses}

    def close(self) -> None:
        """Let go of the driver."""
        self._gpus.close()


class Sampling:
    """The task that does it; made by the supervisor for as long as it runs."""

    def __init__(
        self, node: str, client: redis.asyncio.Redis, database: DatabaseRunner, actors: Mapping[int, InstanceActor]
    ) -> None:
        self._node = node
        self._redis = client
        self._database = database
        self._actors = actors
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampling")
        self._counter = EventCounter(node)
        self._sampler: NodeSampler | None = None
        self._is_failing = False
        self._task = asyncio.create_task(self._run(), name="sampling") if settings.CORRAL.metrics else None

    async def end(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            if self._sampler is not None:
                self._thread.submit(self._sampler.close)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(INTERVAL_S)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sample = await loop.run_in_executor(self._thread, self._take_sample, self._list_trees())
            key = f"corral:node-metrics:{self._node}"
            await keep_cancellation(self._redis.set(key, json.dumps(sample), ex=LIFETIME_S))
            await self._counter.count(self._redis, self._database)
        except (RedisError, OSError, DatabaseError) as error:
            if not self._is_failing:
                logger.warning("the node's metrics can't be written (%s); trying again every %g s", error, INTERVAL_S)
            self._is_failing = True
        except Exception:
            # Whatever a host has that psutil doesn't expect: the metrics may be missing, the supervisor goes on.
            if not self._is_failing:
                logger.exception("the node can't be sampled; trying again every %g s", INTERVAL_S)
            self._is_failing = True
        else:
            self._is_failing = False

    def _take_sample(self, trees: Sequence[RunningTree]) -> dict[str, Any]:
        """Runs in the thread, where the sampler is made as well."""
        self._sampler = self._sampler or NodeSampler()
        return self._sampler.take_sample(self._node, trees)

    def _list_trees(self) -> list[RunningTree]:
        return [
            RunningTree(instance_id, actor.shim.identity.pid, actor.shim.identity.started, actor.shim.run_dir)
            for instance_id, actor in self._actors.items()
            if actor.shim is not None
        ]
