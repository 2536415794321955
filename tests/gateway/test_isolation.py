"""The request path stays free of Django."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_database

PROGRAM = """
import asyncio, sys
from gateway.app import build_gateway
from gateway.config import GatewayConfig
from gateway.structs import Principal, Route, Snapshot

async def next_app(scope, receive, send):
    raise AssertionError("not for the next application")

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    route = Route(instance_id=1, name="m", backend_type="command", state="ready", state_changed_at=0.0,
                  host="127.0.0.1", port=port)
    app = build_gateway(GatewayConfig(), next_app, "redis://127.0.0.1:1",
                        load_snapshot=lambda: Snapshot(routes=(route,)),
                        find_principal=lambda digest: Principal(kind="inference", instances=None))
    sent = []
    async def receive():
        return {"type": "http.request", "body": b'{"model":"m"}', "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
             "headers": [(b"x-api-key", b"k")]}
    await app(scope, receive, send)
    await app.stop()
    assert sent[0]["status"] == 200 and sent[1]["body"] == b"hello", sent

async def serve(reader, writer):
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")

asyncio.run(main())
found = {name for name in sys.modules if name.split(".")[0] in {"django", "channels", "accounts", "instances"}}
print(sorted(found - {"accounts", "accounts.credentials"}))
"""


def test_a_request_is_served_without_django_being_imported() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_only_the_loader_and_the_ledger_know_the_models() -> None:
    gateway = Path(__file__).parents[2] / "gateway"
    for path in gateway.rglob("*.py"):
        lines = path.read_text().splitlines()
        imports = [line for line in lines if line.startswith(("import ", "from "))]
        sources = [line.split()[1] for line in imports]
        foreign = [name for name in sources if name.split(".")[0] in {"django", "accounts", "instances"}]
        if foreign == ["accounts.credentials"]:  # which imports no Django (tests/portal/test_imports.py)
            continue
        assert not foreign or path.name in {"loader.py", "ledger.py"}, (path.name, foreign)
