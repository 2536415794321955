"""In which form a client wants to be told about an error."""

from __future__ import annotations

import html

from gateway.asgi import Headers, Send, find_header
from gateway.errors import ANTHROPIC, MANAGEMENT, OPENAI, STRING, ErrorForm, GatewayError, send_error
from gateway.exchange import Exchange

_BY_NAME = {form.encode(): form for form in (OPENAI, ANTHROPIC, MANAGEMENT, STRING)}


def choose_form(exchange: Exchange, usual: ErrorForm) -> ErrorForm:
    """The form that the header `X-Error-Format` names, else the usual one of the address."""
    wanted = find_header(exchange.headers, b"x-error-format")
    return _BY_NAME.get(wanted.strip().lower(), usual) if wanted is not None else usual


async def answer_error(exchange: Exchange, error: GatewayError, usual: ErrorForm) -> None:
    """Answer with the error: JSON for programs, text for those that want it, a page for people with a browser."""
    exchange.outcome, exchange.status = "refused", error.status
    exchange.error_message = error.message
    accepted = find_header(exchange.headers, b"accept") or b""
    is_api = exchange.path.startswith(("/v1/", "/api/"))
    if exchange.method == "GET" and not is_api and b"text/html" in accepted:
        await _send_page(exchange.send, error, exchange.extra_headers)
    elif not is_api and b"text/plain" in accepted and b"json" not in accepted:
        await _send_text(exchange.send, error, exchange.extra_headers)
    else:
        await send_error(exchange.send, error, choose_form(exchange, usual), exchange.extra_headers)


async def _send_text(send: Send, error: GatewayError, headers: Headers) -> None:
    """A sentence, as llama-swap tells those who accept plain text (its reference, 1.2)."""
    text = f"Corral: {error.message}".encode()
    own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": error.status, "headers": [*own, *error.headers, *headers]})
    await send({"type": "http.response.body", "body": text})


async def _send_page(send: Send, error: GatewayError, headers: Headers) -> None:
    text = html.escape(error.message)
    page = f"<!doctype html><html lang=en><title>{error.status}</title><h1>Corral</h1><p>{text}</p></html>".encode()
    own = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
        (b"content-security-policy", b"default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if error.status == 401:
        own.append((b"www-authenticate", b'Basic realm="Corral: an API key as the password"'))  # so the browser asks
    await send({"type": "http.response.start", "status": error.status, "headers": [*own, *error.headers, *headers]})
    await send({"type": "http.response.body", "body": page})
