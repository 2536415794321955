"""Chunks of an answer as they came (RFC 9112, 7.1), for those who can send them on without parsing them."""

from __future__ import annotations

_SIZE_DIGITS = 8
_MOST = 16
"""So many chunks in a row are looked at; the parser is quicker with more."""


def read_chunks(data: bytes) -> bytes | None:
    """What is in the few chunks of which `data` consists; None unless all are whole, without extensions, not the last.

    Nothing but the plainest spelling of a size is understood, so that whoever gets `data` reads the same in it.
    """
    end = data.find(b"\r\n", 0, _SIZE_DIGITS + 2)
    size = len(data) - end - 4
    if size > 0 and data[:end] == b"%x" % size and data.endswith(b"\r\n"):  # a single one, as nearly always
        return data[end + 2 : -2]
    pieces: list[bytes] = []
    begin, length = 0, len(data)
    while begin < length:
        if len(pieces) == _MOST:
            return None
        end = data.find(b"\r\n", begin, begin + _SIZE_DIGITS + 2)
        digits = data[begin:end]
        if end < 0 or not digits.isalnum():
            return None
        try:
            size = int(digits, 16)
        except ValueError:
            return None
        begin = end + size + 4
        is_plain = digits == b"%x" % size or digits == b"%X" % size
        if not size or not is_plain or begin > length or data[begin - 2 : begin] != b"\r\n":
            return None
        pieces.append(data[end + 2 : begin - 2])
    return b"".join(pieces) or None
