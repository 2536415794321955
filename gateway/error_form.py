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
    """Answer with the error: a page for people who open an engine's address in a browser, JSON for programs."""
    exchange.outcome, exchange.status = "refused", error.status
    exchange.error_message = error.message
    if exchange.method == "GET" and not exchange.path.startswith(("/v1/", "/api/")) and _wants_page(exchange.headers):
        await _send_page(exchange.send, error, exchange.extra_headers)
    else:
        await send_error(exchange.send, error, choose_form(exchange, usual), exchange.extra_headers)


def _wants_page(headers: Headers) -> bool:
    return b"text/html" in (find_header(headers, b"accept") or b"")


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
    await send({"type": "http.response.start", "status": error.status, "headers": own + headers})
    await send({"type": "http.response.body", "body": page})
