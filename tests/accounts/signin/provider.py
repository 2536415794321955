"""A real OpenID Connect provider in a process of its own; ``PUT /users/<sub>`` says what it tells about somebody."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.system.stack import free_port


@contextmanager
def run_provider() -> Iterator[str]:
    """Run a provider that knows every client, and yield its address once it answers."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{address}/.well-known/openid-configuration").raise_for_status()
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        try:
            yield address
        finally:
            process.terminate()
