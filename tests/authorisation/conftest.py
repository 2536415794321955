"""The whole application in this process, in front of a fake engine and a real Valkey."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from channels.layers import get_channel_layer
from django.utils import timezone

from instances.domain import lifecycle, waiting
from instances.enums import State
from instances.logs.hub import close_hub
from instances.models import Instance
from tests.authorisation.world import Portal, World
from tests.gateway.harness import Call, Upstream, Valkey, run_valkey

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with run_valkey() as server:
        yield server


def stop_at_once(row: Instance) -> Instance:
    """Do what a supervisor does, without one."""
    row.runs.update(exited_at=timezone.now())
    Instance.objects.filter(pk=row.pk).update(state=State.STOPPED)
    return Instance.objects.get(pk=row.pk)


@pytest.fixture
def _no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is let in gets an answer at once: the node obeys without being there."""
    monkeypatch.setattr(waiting, "wait_for_start", lambda row, **_: row)
    monkeypatch.setattr(waiting, "wait_for_stop", stop_at_once)
    monkeypatch.setattr(lifecycle, "remove_files_on_commit", lambda **_: None)
    monkeypatch.setattr("instances.api.views.backends.fetch_description", lambda *_: "--help")


async def answer_as_engine(call: Call) -> None:
    """Answer everything, and greet on every WebSocket."""
    if key := call.headers.get("sec-websocket-key"):
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        await call.write("\r\n".join([*head, f"Sec-WebSocket-Accept: {accept}\r\n\r\n"]).encode() + b"\x81\x02hi")
        await call.wait_closed()
        raise ConnectionResetError
    await call.read_body()
    await call.answer(b'{"data":[]}', "Content-Type: application/json")


@pytest.fixture
def prepared(_no_supervisor: None, valkey: Valkey, settings: Any, tmp_path: Path) -> None:
    """Settings for an application of the test's own."""
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [valkey.url]}}}
    settings.CORRAL = msgspec.structs.replace(settings.CORRAL, redis_url=valkey.url, data_dir=tmp_path)


@pytest.fixture
async def portal(transactional_db: None, prepared: None) -> AsyncIterator[Portal]:
    """The application as ``portal.asgi`` puts it together, with the people and instances of the table."""
    from portal.asgi import make_application

    async with Upstream() as engine:
        engine.handler = answer_as_engine
        application = make_application()
        await application.gateway.start()
        yield Portal(application, World(engine.port))
        await application.gateway.stop()
        await close_hub()
        await get_channel_layer().flush()
