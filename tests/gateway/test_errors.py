"""What clients of OpenAI's and Anthropic's APIs are told by the status, the type and the headers of a refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.asgi import Message
from gateway.errors import ANTHROPIC, OPENAI, GatewayError, send_error
from tests.gateway.harness import Gateway, make_route
from tests.system.stack import ROOT

pytestmark = pytest.mark.any_database


async def answer(error: GatewayError, form: str) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await send_error(send, error, form, [])
    start, body = messages
    return start["status"], dict(start["headers"]), msgspec.json.decode(body["body"])


@pytest.mark.parametrize(
    ("status", "openai_type", "anthropic_status", "anthropic_type"),
    [
        (400, "invalid_request_error", 400, "invalid_request_error"),
        (401, "authentication_error", 401, "authentication_error"),
        (403, "permission_error", 403, "permission_error"),
        (404, "invalid_request_error", 404, "not_found_error"),
        (409, "conflict_error", 409, "invalid_request_error"),
        (413, "invalid_request_error", 413, "request_too_large"),
        (429, "rate_limit_error", 429, "rate_limit_error"),
        (501, "not_supported_error", 400, "invalid_request_error"),
        (502, "server_error", 502, "api_error"),
        (503, "unavailable_error", 529, "overloaded_error"),
        (504, "timeout_error", 504, "timeout_error"),
    ],
)
async def test_each_status_has_its_type_in_both_apis(
    status: int, openai_type: str, anthropic_status: int, anthropic_type: str
) -> None:
    error = GatewayError(status, "a_code", "A sentence.", param="model")
    told, _, body = await answer(error, OPENAI)
    assert (told, body) == (
        status,
        {"error": {"message": "A sentence.", "type": openai_type, "code": "a_code", "param": "model"}},
    )
    told, _, body = await answer(error, ANTHROPIC)
    assert (told, body) == (
        anthropic_status,
        {"type": "error", "error": {"type": anthropic_type, "message": "A sentence."}},
    )


@pytest.mark.parametrize("form", [OPENAI, ANTHROPIC])
async def test_what_a_repetition_does_not_mend_is_not_to_be_repeated(form: str) -> None:
    _, final, _ = await answer(GatewayError(503, "instance_disabled", "It is disabled."), form)
    _, full, _ = await answer(GatewayError(429, "queue_full", "Many wait.", retry_after_s=5), form)
    _, again, _ = await answer(GatewayError(503, "instance_start_failed", "It crashed.", retry_after_s=1), form)
    _, lost, _ = await answer(GatewayError(502, "bad_gateway", "It broke off."), form)
    assert final[b"x-should-retry"] == b"false"
    assert all(b"x-should-retry" not in headers for headers in (full, again, lost))
    assert (full[b"retry-after"], again[b"retry-after"]) == (b"5", b"1")


@pytest.mark.parametrize(
    ("group", "path", "headers", "form"),
    [
        ("`/v1/*`", "/v1/chat/completions?model=none", {}, "openai"),
        ("`/models`", "/models/none", {}, "openai"),
        ("llama-server's own paths at the root", "/props?model=none", {}, "openai"),
        ("`/llama-cpp/{name}/*`", "/llama-cpp/none/props", {}, "openai"),
        ("`/upstream/{model}/*`", "/upstream/m/x", {}, "openai"),
        ("under `/upstream` an unknown model", "/upstream/none/x", {}, "string"),
        ("`/v1/messages*`", "/v1/messages?model=none", {}, "anthropic"),
        ("lists of models", "/v1/models/none", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("`/api/v1/instances/{name}/proxy/*`", "/api/v1/instances/none/proxy/x", {}, "management"),
        ("`/api/v1/llama-cpp/{name}/models*`", "/api/v1/llama-cpp/none/models", {}, "management"),
        ("`/api/models/unload*`", "/api/models/unload/none", {}, "string"),
    ],
)
async def test_each_route_refuses_in_the_form_that_the_documentation_gives(
    gateway: Gateway, group: str, path: str, headers: dict[str, str], form: str
) -> None:
    table = (ROOT / "docs" / "api.md").read_text().partition("**Forms of errors.**")[2]
    assert any(group in line and f"| `{form}`" in line for line in table.splitlines()), "it is documented otherwise"
    await gateway.set_routes(make_route(disabled=True))
    method = "POST" if "unload" in path or "messages" in path else "GET"
    body = (await gateway.manager.request(method, path, headers=headers)).json()
    shape = {
        "openai": isinstance(body["error"], dict) and "type" not in body,
        "anthropic": body.get("type") == "error",
        "management": isinstance(body["error"], str) and "details" in body,
        "string": isinstance(body["error"], str) and len(body) == 1,
    }
    assert [name for name, holds in shape.items() if holds] == [form]
