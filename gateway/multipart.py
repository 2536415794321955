"""Finding the model in a multipart form (RFC 7578) while it comes, and replacing it without touching any other byte.

A form may carry a file of a gigabyte before its field `model`, so what precedes the field is held in a spool; what
follows goes on as it comes.
"""

from __future__ import annotations

from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.asgi import find_header
from gateway.body import RequestBody, check_length, hold_body, stream_body
from gateway.body_stream import BodyStream, Splice
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.spool import Spool

MODEL_LIMIT = 1024
"""Bytes that a model's name may have."""
_PART_LIMIT = 1000
_HEADER_COUNT = 16
_HEADER_BYTES = 4096
_FIELD = b"model"
_PART = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'


def is_multipart(content_type: bytes | None) -> bool:
    """Whether a request's `Content-Type` announces a multipart form."""
    return content_type is not None and content_type.lstrip()[:19].lower() == b"multipart/form-data"


class ModelScanner:
    """Fed with the pieces of a form, finds its field `model` and the place of its value.

    `feed` raises `GatewayError` 400 for what is no form, for a name that is too long, and for a second field `model`:
    an engine might go by another one than the gateway.
    """

    def __init__(self, content_type: bytes) -> None:
        self.model: str | None = None
        """The value, None until all of it has come; an empty one may be."""
        self.value_start = 0
        self.value_end = 0
        """Where the value begins and ends, in bytes from the beginning of the form."""
        self.boundary = _read_boundary(content_type)
        self._opening = b""
        self._parser = MultipartParser(
            self.boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
            max_header_count=_HEADER_COUNT,
            max_header_size=_HEADER_BYTES,
        )
        self._is_ended = False
        self._chunk = b""
        self._position = 0
        self._part_count = 0
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._is_model = False
        self._model_count = 0
        self._value = b""

    def feed(self, data: bytes) -> None:
        """Take in the next piece."""
        if len(self._opening) < len(self.boundary) + 2:
            self._opening = (self._opening + data)[: len(self.boundary) + 2]
        self._chunk = data
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from error
        self._position += len(data)
        self._chunk = b""

    @property
    def can_be_preceded(self) -> bool:
        """Whether the form begins with its first part, so that another one can be put before it."""
        return self._opening == b"--" + self.boundary

    def finish(self) -> None:
        """The form has ended. Raises `GatewayError` 400 when its last boundary hasn't come."""
        if not self._is_ended:
            raise _malformed("it ends before its closing boundary")

    def _begin_part(self) -> None:
        self._part_count += 1
        if self._part_count > _PART_LIMIT:
            raise _malformed(f"it has more than {_PART_LIMIT} parts")
        self._disposition = b""
        self._is_model = False

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        if _FIELD not in self._disposition:
            return
        _, parameters = parse_options_header(self._disposition)
        self._is_model = parameters.get(b"name") == _FIELD and b"filename" not in parameters
        if self._is_model:
            self._model_count += 1
            if self._model_count > 1:
                raise GatewayError(400, "invalid_request", "The form has the field model twice", param="model")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_model:
            return
        if not self._value:
            # What looked like a boundary at the end of the piece before comes again here, from the parser's own copy.
            self.value_start = self._position + start if data is self._chunk else self._position - (end - start)
        self._value += data[start:end]
        if len(self._value) > MODEL_LIMIT:
            message = f"The form's field model is longer than {MODEL_LIMIT} bytes"
            raise GatewayError(400, "invalid_request", message, param="model")

    def _end_part(self) -> None:
        if self._is_model:
            self._is_model = False
            self.value_end = self.value_start + len(self._value)
            try:
                self.model = self._value.decode()
            except UnicodeDecodeError as error:
                message = "The form's field model is not valid UTF-8"
                raise GatewayError(400, "invalid_request", message, param="model") from error

    def _end_form(self) -> None:
        self._is_ended = True


class Upload:
    """A form on its way. `model` is the value of its field `model`; None when it has none."""

    def __init__(self, exchange: Exchange, stream: BodyStream, scanner: ModelScanner) -> None:
        self.model = scanner.model
        self._exchange = exchange
        self._stream = stream
        self._scanner = scanner
        self._growth = 0

    async def keep_reading(self) -> NoReturn:
        """Go on receiving the form while it can't be forwarded yet.

        For a task beside the wait, to be cancelled when that is over: nothing is lost by it. Raises `ClientGone` when
        the client goes, and `GatewayError` when the form turns out to be malformed, too large, or can't be stored.
        """
        await self._stream.keep_reading()

    def put_model(self, model: str) -> None:
        """Send another model than the form names, or one if it has no such field; all other bytes stay as they are.

        To be called before `make_body`. Without effect on a form whose field is empty or that has a preamble.
        """
        scanner, value = self._scanner, model.encode()
        if scanner.boundary in value:
            raise _malformed("its boundary is a part of the model's name")
        if self.model:
            splice = Splice(scanner.value_start, scanner.value_end, value)
        elif self.model is None and scanner.can_be_preceded:
            splice = Splice(0, 0, _PART % (scanner.boundary, value))
        else:
            return
        self._growth = splice.growth
        self._stream.replace(splice)

    def make_body(self) -> RequestBody:
        """The body to forward, to be called once and last."""
        if self._stream.is_in_memory:
            return hold_body(self._stream.take_all())
        return stream_body(self._exchange, self._stream, growth=self._growth)


async def find_multipart_model(exchange: Exchange, *, max_upload_bytes: int, spool_folder: str | None = None) -> Upload:
    """Read a form until its field `model` is known, or to its end.

    No more than 1 MiB of it is held in memory, the rest in a temporary file in `spool_folder` (None: the system's place
    for them), until `exchange.release_body`. Raises `ClientGone`, and `GatewayError` 400 for what is no form, 413 for
    more than `max_upload_bytes` and 503 when the file can't be written.
    """
    check_length(exchange.headers, max_upload_bytes)
    scanner = ModelScanner(find_header(exchange.headers, b"content-type") or b"")
    spool = Spool(may_use_disk=True, folder=spool_folder)
    exchange.release = spool.close
    stream = BodyStream(exchange, spool=spool, limit_bytes=max_upload_bytes, inspect=scanner.feed)
    while scanner.model is None and not stream.has_ended:
        await stream.read_ahead()
    if scanner.model is None:
        scanner.finish()
    return Upload(exchange, stream, scanner)


def _read_boundary(content_type: bytes) -> bytes:
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 section 5.1.1
        raise _malformed("its Content-Type names no boundary of 1 to 70 characters")
    return boundary


def _malformed(reason: str) -> GatewayError:
    return GatewayError(400, "invalid_request", f"Invalid multipart form: {reason}")
