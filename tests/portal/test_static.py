"""Static files in front of Django: types, caching, compression, ranges, and nothing outside the folder."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import httpx
import pytest

from portal.static import StaticFiles

pytestmark = pytest.mark.any_database
CSS = b"body { color: black }\n" * 1000


@pytest.fixture
def client(tmp_path: Path) -> httpx.AsyncClient:
    """A client of the files of one folder; 404 stands for Django."""
    root = tmp_path / "static"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "page.css").write_bytes(CSS)
    (root / "page.css.gz").write_bytes(gzip.compress(CSS))
    (root / "page.0123456789ab.css").write_bytes(CSS)
    files = StaticFiles(root, "/static/")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        file = files.find(scope["path"])
        if file is not None:
            await files.serve(file, scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test")


async def test_a_file_has_its_type_and_is_checked_again(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/page.css", headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, CSS)
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" not in answer.headers["cache-control"]
    again = await client.get("/static/page.css", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_hashed_name_is_kept_for_ever(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/page.0123456789ab.css")
    assert "immutable" in answer.headers["cache-control"]


async def test_a_client_that_takes_gzip_gets_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/page.css", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert answer.content == CSS


async def test_a_range_is_a_part(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/page.css", headers={"Range": "bytes=5-9", "Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (206, CSS[5:10])
    beyond = await client.get("/static/page.css", headers={"Range": "bytes=999999-", "Accept-Encoding": "identity"})
    assert beyond.status_code == 416


async def test_only_reading_is_allowed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/static/page.css")).status_code == 405
    head = await client.head("/static/page.css")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/static/", "/static/nothing.css", "/static/../secret", "/static/%2e%2e/secret"])
async def test_other_paths_are_not_its_own(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
