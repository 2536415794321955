"""The supervisor's only way to the database: one thread that runs synchronous functions one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, connection

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseRunner:
    """Runs ORM functions for an event loop in one thread of its own, so that they never block the loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="supervisor-db")

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in the thread and return its result; its exceptions pass through.

        After a database error the connection is dropped, so that the next call starts with a fresh one.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(self._call, partial(function, *args, **kwargs)))

    @staticmethod
    def _call(function: Callable[[], R]) -> R:
        try:
            return function()
        except (DatabaseError, InterfaceError):
            connection.close()
            raise

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self.run(close_connection)
        self._executor.shutdown()


def close_connection() -> None:
    """Close the calling thread's own connection."""
    connection.close()
