"""Carrying a WebSocket (RFC 6455) between a client and a running instance, message by message."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from gateway.activity import Activity
from gateway.asgi import Headers, Message, Receive, Scope, Send
from gateway.errors import OPENAI, ClientGone, GatewayError, render_error
from gateway.headers import build_handshake_headers
from gateway.structs import Route

_protocol_logger = logging.getLogger(f"{__name__}.protocol")
_protocol_logger.setLevel(logging.WARNING)  # each connection would be worth two lines to it

MESSAGE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message of an engine; the web server has a limit of its own for those of clients."""
_HELD_MESSAGES = 2
"""Messages of an engine that may wait for the client before the engine is made to wait too."""
_CLOSE_TIMEOUT_S = 2.0
_KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""By such a subprotocol browsers send their key to OpenAI's realtime API, as they can't set headers."""
RESPONSE = "websocket.http.response"
"""The extension of ASGI by which a handshake is refused with a status and a body."""
_NORMAL, _POLICY, _INTERNAL = 1000, 1008, 1011
_NO_STATUS = 1005
_SENDABLE = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))
"""Codes below 3000 that may stand in a close frame (RFC 6455 section 7.4)."""


async def relay_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    route: Route,
    path: bytes,
    query: bytes,
    activity: Activity,
    connect_timeout_s: float = 5.0,
) -> None:
    """Connect the client of `scope` with `path` of a ready instance, until one of them closes.

    To be called before anything was received. The client is accepted only when the instance has accepted: it gets the
    instance's subprotocol, or a refusal with the instance's status. Counts as a request in work for its whole time.
    """
    dial = _Dial(scope, route, path, query, route.connect_timeout_s or connect_timeout_s)
    # Before anything is awaited: the instance may be stopped any moment, and whoever is counted is waited for.
    activity.begin(route.instance_id, counts_as_use=True)
    try:
        if (await receive())["type"] != "websocket.connect":
            return
        await _relay(receive, send, dial)
    except GatewayError as error:
        await refuse_websocket(scope, send, error)
    except ClientGone:
        return
    finally:
        activity.end(route.instance_id, counts_as_use=True)


async def refuse_websocket(scope: Scope, send: Send, error: GatewayError) -> None:
    """Refuse a WebSocket that was not accepted yet: with the error's status and body, if the server can."""
    if RESPONSE in scope.get("extensions", ()):
        retry = [] if error.retry_after_s is None else [(b"retry-after", b"%d" % error.retry_after_s)]
        await answer_handshake(send, error.status, render_error(error, OPENAI), retry)
    else:
        code = _POLICY if error.status < 500 else _INTERNAL
        await send({"type": "websocket.close", "code": code, "reason": _fit_reason(error.message)})


async def answer_handshake(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Answer a handshake with a refusal in JSON, if the server offers `RESPONSE`."""
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{RESPONSE}.start", "status": status, "headers": own + headers})
    await send({"type": f"{RESPONSE}.body", "body": body, "more_body": False})


class _EngineConnection(ClientConnection):
    """One that is over soon after the engine has said so, even if the engine leaves its TCP connection open."""

    _ending: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._ending is None and self.protocol.close_expected():
            self._ending = self.loop.call_later(_CLOSE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)


class _Dial:
    """The opening handshake with an instance."""

    def __init__(self, scope: Scope, route: Route, path: bytes, query: bytes, timeout_s: float) -> None:
        self._route = route
        self._timeout_s = timeout_s
        client = scope.get("client")
        self._headers = build_handshake_headers(route, scope["headers"], client_host=client[0] if client else None)
        target = route.path_prefix + path.decode("latin-1")
        self._uri = WebSocketURI(False, route.host, route.port, target, query.decode("latin-1"))
        offered: list[str] = scope.get("subprotocols", [])
        self._subprotocols = [Subprotocol(name) for name in offered if not name.startswith(_KEY_SUBPROTOCOL)]

    async def open(self) -> ClientConnection:
        """The open connection. Raises `GatewayError`: 502, 504, or with the status by which the instance refuses."""
        name = self._route.name
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._shake_hands()
        except TimeoutError:
            message = f"Instance {name} did not accept the WebSocket within {self._timeout_s:g} seconds"
            raise GatewayError(504, "upstream_timeout", message) from None
        except InvalidStatus as error:
            status = error.response.status_code
            message = f"Instance {name} refused the WebSocket with status {status}"
            raise GatewayError(status if 400 <= status <= 599 else 502, "upstream_refused", message) from error
        except (OSError, EOFError, WebSocketException, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it closed the connection"
            raise GatewayError(502, "bad_gateway", f"Instance {name} can't be reached: {reason}") from error

    async def _shake_hands(self) -> ClientConnection:
        def make_connection() -> ClientConnection:
            protocol = ClientProtocol(
                self._uri, subprotocols=self._subprotocols or None, max_size=MESSAGE_LIMIT, logger=_protocol_logger
            )
            # A busy engine may not answer pings for minutes; the web server pings the client.
            return _EngineConnection(
                protocol, ping_interval=None, close_timeout=_CLOSE_TIMEOUT_S, max_queue=_HELD_MESSAGES
            )

        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(make_connection, self._route.host, self._route.port)
        try:
            await connection.handshake(self._headers, user_agent_header=None)
        except BaseException:
            connection.transport.abort()
            raise
        return connection


async def _relay(receive: Receive, send: Send, dial: _Dial) -> None:
    # The first message is awaited during the handshake with the engine, as it may be the client's departure.
    first = asyncio.ensure_future(receive())
    opening = asyncio.create_task(dial.open())
    try:
        await asyncio.wait((first, opening), return_when=asyncio.FIRST_COMPLETED)
        if not opening.done() and first.result()["type"] == "websocket.disconnect":
            raise ClientGone
        engine = await opening
        try:
            accept: Message = {"type": "websocket.accept", "subprotocol": engine.subprotocol, "headers": []}
            await _send_on(send, accept)
            await _exchange_messages(first, receive, send, engine)
        finally:
            # Whatever is left to be said was said; what an engine that doesn't answer leaves open isn't waited for.
            engine.transport.abort()
    finally:
        await _end(first, opening)


async def _exchange_messages(
    first: asyncio.Future[Message], receive: Receive, send: Send, engine: ClientConnection
) -> None:
    upward = asyncio.create_task(_carry_up(first, receive, engine))
    downward = asyncio.create_task(_carry_down(send, engine))
    try:
        await asyncio.wait((upward, downward), return_when=asyncio.FIRST_COMPLETED)
        if upward.done():
            await engine.close(*upward.result())
        else:
            code, reason = downward.result()
            await _send_on(send, {"type": "websocket.close", "code": code, "reason": reason})
    finally:
        await _end(upward, downward)


async def _end(*futures: asyncio.Future[Any]) -> None:
    """Cancel what still runs; what went wrong in it doesn't matter any more."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _carry_up(first: asyncio.Future[Message], receive: Receive, engine: ClientConnection) -> tuple[int, str]:
    """Carry the client's messages to the engine; the code and reason by which the client ends that."""
    message = await first
    while message["type"] != "websocket.disconnect":
        data = message.get("bytes")
        try:
            await engine.send(data if data is not None else message["text"])
        except ConnectionClosed:
            # What the engine said when it closed is found at the other end of its messages.
            await asyncio.get_running_loop().create_future()
        message = await receive()
    return _choose_code(message.get("code", _NO_STATUS)), _fit_reason(message.get("reason") or "")


async def _carry_down(send: Send, engine: ClientConnection) -> tuple[int, str]:
    """Carry the engine's messages to the client; the code and reason by which the engine ends that."""
    try:
        while True:
            data = await engine.recv()
            kind = "text" if isinstance(data, str) else "bytes"
            await _send_on(send, {"type": "websocket.send", kind: data})
    except ConnectionClosed as closed:
        end = closed.rcvd or closed.sent
        if end is None:
            return _INTERNAL, "The engine broke the connection"
        return _choose_code(end.code), end.reason


async def _send_on(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as error:  # ASGI: what the client can't get any more
        raise ClientGone from error


def _choose_code(code: int) -> int:
    """The code by which the other side is closed: some are for what happened, and may not be sent."""
    if code in _SENDABLE or 3000 <= code <= 4999:
        return code
    return _NORMAL if code == _NO_STATUS else _INTERNAL


def _fit_reason(reason: str) -> str:
    """The reason as it fits into a close frame: at most 123 bytes of UTF-8."""
    return reason.encode()[:123].decode(errors="ignore")
