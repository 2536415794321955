"""Collected static files as a small ASGI application in front of Django.

WhiteNoise builds the table of files (types, ETags, compressed alternatives, ranges). Its own Django middleware is
synchronous: under ASGI it would hop through a thread for every request of every page and hand Django a synchronous
iterator, which is read whole before the first byte goes out. Here a request costs one look-up, and only files are read
in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

from whitenoise import WhiteNoise
from whitenoise.responders import StaticFile

from gateway.asgi import Receive, Scope, Send

CHUNK_SIZE = 256 * 1024
#: Names with Django's content hash never change their content.
HASHED_NAME = r"\.[0-9a-f]{12}\.[^/]+$"
#: Request headers that WhiteNoise reads, under the names it knows them by.
REQUEST_HEADERS = {
    b"accept-encoding": "HTTP_ACCEPT_ENCODING",
    b"if-modified-since": "HTTP_IF_MODIFIED_SINCE",
    b"if-none-match": "HTTP_IF_NONE_MATCH",
    b"range": "HTTP_RANGE",
}


class StaticFiles:
    """Serves the files below one folder at one URL prefix.

    The folder is read once, when the first file is asked for: `corral up` loads this while files are being collected.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self.prefix = prefix

    @cached_property
    def files(self) -> Mapping[str, StaticFile]:
        """The files by URL path."""
        table = WhiteNoise(None, immutable_file_test=HASHED_NAME)
        if self.root.is_dir():
            table.add_files(str(self.root), self.prefix)
        return dict(table.files)

    def find(self, path: str) -> StaticFile | None:
        """Return the file at this URL path, or None."""
        return self.files.get(path) if path.startswith(self.prefix) else None

    async def serve(self, file: StaticFile, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the file: whole, in part, compressed, or "not modified"."""
        headers = {
            REQUEST_HEADERS[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in REQUEST_HEADERS
        }
        response = await asyncio.to_thread(file.get_response, scope["method"], headers)
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        fields.append((b"x-content-type-options", b"nosniff"))
        try:
            await send({"type": "http.response.start", "status": int(response.status), "headers": fields})
            if response.file is not None:
                await send_content(response.file, send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            if response.file is not None:
                response.file.close()


async def send_content(content: IO[bytes], send: Send) -> None:
    """Send a file in chunks; each waits until the client has taken the one before."""
    while chunk := await asyncio.to_thread(content.read, CHUNK_SIZE):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
