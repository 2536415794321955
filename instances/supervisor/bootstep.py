"""The supervisor inside the Celery worker: a bootstep that runs its event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

from celery import bootsteps
from django.conf import settings

from instances.supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)

STOP_MODELS_FILE = "run/stop-models"
"""When this file exists in the data folder while the worker ends, models are stopped too (Ctrl-C, ``corral down``)."""


class SupervisorStep(bootsteps.StartStopStep):
    """Starts the node's supervisor with the worker and ends it before the worker ends."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def start(self, parent: Any) -> None:
        """Start the loop's thread."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """End the supervisor and wait for it: long enough for models to be stopped when that was asked for."""
        self._ending.set()
        if self._thread is None or self._loop is None or self._supervisor is None:
            return
        stop_models = (Path(settings.CORRAL.data_dir) / STOP_MODELS_FILE).exists()
        self._loop.call_soon_threadsafe(partial(self._supervisor.end, stop_models=stop_models))
        limit = settings.CORRAL.drain_timeout + settings.CORRAL.stop_timeout + 30 if stop_models else 10
        self._thread.join(limit)
        if self._thread.is_alive():
            logger.error("the supervisor did not end within %s s", limit)

    terminate = stop

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                asyncio.run(self._supervise())
            except Exception:
                logger.exception("the supervisor ended unexpectedly; it adopts what runs and goes on")
                self._ending.wait(2)

    async def _supervise(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._supervisor = Supervisor(settings.CORRAL.node)
        await self._supervisor.run()
