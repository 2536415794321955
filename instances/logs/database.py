"""Queries for coroutines, in two threads of their own, so that a slow database holds up nothing else in the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="log-queries")


async def run_query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run synchronous code that uses the ORM, wait for it, and give its connection back. Raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(_call, function, *args, **kwargs))


def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()
