"""Which part of the gateway answers an address."""

from __future__ import annotations

from typing import Protocol

from gateway.asgi import find_header
from gateway.errors import ANTHROPIC, OPENAI, ErrorForm
from gateway.exchange import Exchange
from gateway.instance_proxy import is_proxy_path
from gateway.native import SEGMENTS as NATIVE_SEGMENTS


class Part(Protocol):
    """A set of addresses that are answered in the same way."""

    form: ErrorForm
    """How its errors look unless the client asks for another form."""

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError`, which the application answers, and `ClientGone`."""


class Dispatcher:
    """Finds the part by the beginning of the path."""

    def __init__(
        self,
        *,
        inference: Part,
        llama_cpp: Part,
        model_proxy: Part,
        instance_proxy: Part,
        router_mode: Part,
        control: Part,
        scrape: Part,
    ) -> None:
        self.inference = inference
        self._instance_proxy = instance_proxy
        self._router_mode = router_mode
        self._control = control
        self._by_segment: dict[str, Part] = {
            **dict.fromkeys(NATIVE_SEGMENTS, inference),
            "v1": inference,
            "models": inference,
            "llama-cpp": llama_cpp,
            "upstream": model_proxy,
            "running": control,
            "unload": control,
            "metrics": scrape,
        }

    def find(self, path: str) -> Part | None:
        """The part that answers this path; None when it belongs to the next application."""
        if path.startswith("/v1/"):
            return self.inference
        if path.startswith("/api/"):
            if is_proxy_path(path):
                return self._instance_proxy
            if path.startswith("/api/v1/llama-cpp/"):
                return self._router_mode
            if path.startswith("/api/models/unload"):
                return self._control
            return None
        return self._by_segment.get(path[1:].partition("/")[0])


def passes_any_method(path: str) -> bool:
    """Whether an engine gets every method at this path; for the others OPTIONS is answered here."""
    return path.startswith("/upstream/") or is_proxy_path(path)


def is_for_anthropic(exchange: Exchange) -> bool:
    """Whether a client speaks Anthropic's API: by its path, or where that is OpenAI's too by Anthropic's header."""
    path = exchange.path
    if "/v1/messages" in path or path.startswith("/v/messages"):
        return True
    return "/models" in path and find_header(exchange.headers, b"anthropic-version") is not None


def choose_usual_form(part: Part, exchange: Exchange) -> ErrorForm:
    """The form of errors at this address."""
    return ANTHROPIC if part.form == OPENAI and is_for_anthropic(exchange) else part.form
