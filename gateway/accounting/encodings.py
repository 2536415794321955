"""Decoding compressed answers piece by piece (RFC 9110, 8.4.1), a bounded part at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE = 65536
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
NAMES = frozenset((b"gzip", b"x-gzip", b"deflate"))


class Inflater:
    """Decodes `gzip`, and `deflate` with the zlib header that it should have or, as some servers send it, without."""

    __slots__ = ("_is_begun", "_may_be_raw", "_zlib")

    def __init__(self, encoding: bytes) -> None:
        self._may_be_raw = encoding == b"deflate"
        self._is_begun = False
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in pieces of at most 64 KiB. Raises `zlib.error` for what isn't so encoded."""
        if not self._is_begun and data:
            self._is_begun = True
            # The low half of a zlib header's first byte is 8 (RFC 1950, 2.2); a raw block never begins so with it.
            if self._may_be_raw and data[0] & 0x0F != 8:
                self._zlib = zlib.decompressobj(_RAW)
        while data:
            yield self._zlib.decompress(data, _PIECE)
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:
                data = self._zlib.unused_data
                if data:  # gzip files may be strung together (RFC 1952, 2.2)
                    self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)
