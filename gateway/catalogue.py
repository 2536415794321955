"""Every address that the gateway answers, for the API's document and for tests that walk all routes."""

from __future__ import annotations

from typing import Literal

import msgspec

Access = Literal["public", "model", "management"]
"""Who may call: everybody, any key that may use the model, a management key or a signed-in page."""


class CataloguedRoute(msgspec.Struct, frozen=True):
    """One address with its methods. `path` is an OpenAPI path template; `{path}` stands for the rest of the address."""

    path: str
    methods: tuple[str, ...]
    access: Access
    summary: str
    body: Literal["", "json", "form", "any"] = ""


def _post(path: str, summary: str) -> CataloguedRoute:
    return CataloguedRoute(path, ("POST",), "model", summary, "json")


ROUTES: tuple[CataloguedRoute, ...] = (
    CataloguedRoute("/v1/models", ("GET",), "model", "List the models that the key may use."),
    CataloguedRoute("/v1/models/{model}", ("GET",), "model", "Describe one model."),
    CataloguedRoute("/models", ("GET",), "model", "List the models, for llama.cpp's clients."),
    _post("/v1/chat/completions", "Chat (OpenAI); `stream` for server-sent events."),
    _post("/v1/completions", "Complete a text."),
    _post("/v1/embeddings", "Embed texts."),
    _post("/v1/rerank", "Rank documents."),
    _post("/v1/reranking", "Rank documents."),
    _post("/v1/responses", "Respond (OpenAI's Responses)."),
    _post("/v1/messages", "Chat (Anthropic)."),
    _post("/v1/messages/count_tokens", "Count the tokens of a chat (Anthropic)."),
    _post("/v1/audio/speech", "Speak a text."),
    CataloguedRoute("/v1/audio/transcriptions", ("POST",), "model", "Transcribe an upload.", "form"),
    _post("/v1/images/generations", "Make images."),
    CataloguedRoute("/v1/images/edits", ("POST",), "model", "Change an uploaded image.", "form"),
    CataloguedRoute(
        "/v1/{path}", ("GET", "POST", "PUT", "PATCH", "DELETE"), "model", "Whatever else the engine serves.", "any"
    ),
    _post("/completion", "llama-server's completion."),
    _post("/completions", "llama-server's completion in OpenAI's form."),
    _post("/chat/completions", "llama-server's chat."),
    _post("/responses", "llama-server's responses."),
    _post("/embedding", "llama-server's embedding."),
    _post("/embeddings", "llama-server's embeddings."),
    _post("/infill", "Fill in the middle of code."),
    _post("/rerank", "llama-server's ranking."),
    _post("/reranking", "llama-server's ranking."),
    _post("/tokenize", "Turn text into tokens."),
    _post("/detokenize", "Turn tokens into text."),
    _post("/apply-template", "Apply the chat template."),
    CataloguedRoute("/props", ("GET", "POST"), "model", "The engine's properties.", "json"),
    CataloguedRoute("/slots", ("GET",), "model", "The engine's slots."),
    CataloguedRoute("/slots/{slot}", ("POST",), "model", "Save, restore or erase a slot.", "json"),
    CataloguedRoute("/lora-adapters", ("GET", "POST"), "model", "The engine's adapters.", "json"),
    CataloguedRoute("/sdapi/v1/{path}", ("GET", "POST"), "model", "Stable Diffusion's interface.", "json"),
    CataloguedRoute("/v/{path}", ("POST",), "model", "The engine's path without `/v`.", "json"),
    _post("/audioapi/v1/tasks/run", "Run an audio task."),
    CataloguedRoute("/llama-cpp/{name}/", ("GET",), "public", "llama-server's own page; starts nothing."),
    CataloguedRoute("/llama-cpp/{name}/{path}", ("GET", "POST"), "model", "llama-server's own interface.", "any"),
    CataloguedRoute("/upstream", ("GET",), "public", "Leads to the dashboard."),
    CataloguedRoute("/upstream/{model}", ("DELETE",), "management", "Stop a model."),
    CataloguedRoute("/upstream/{model}/load", ("GET",), "model", "Start a model and wait until it is ready."),
    CataloguedRoute(
        "/upstream/{model}/{path}",
        ("GET", "POST", "PUT", "PATCH", "DELETE"),
        "model",
        "Any path of a model's engine.",
        "any",
    ),
    CataloguedRoute("/running", ("GET",), "model", "The names of ready models; `?detail=1` tells more."),
    CataloguedRoute("/unload", ("GET", "POST"), "management", "Stop every model."),
    CataloguedRoute("/api/models/unload", ("POST",), "management", "Stop every model."),
    CataloguedRoute("/api/models/unload/{model}", ("POST",), "management", "Stop a model."),
    CataloguedRoute("/metrics", ("GET",), "model", "Figures for Prometheus."),
    CataloguedRoute(
        "/api/v1/instances/{name}/proxy/{path}",
        ("GET", "POST", "PUT", "PATCH", "DELETE"),
        "management",
        "Any path of an instance; never starts it.",
        "any",
    ),
    CataloguedRoute("/api/v1/llama-cpp/{name}/models", ("GET",), "management", "The models inside a llama-server."),
    CataloguedRoute(
        "/api/v1/llama-cpp/{name}/models/{model}/load", ("POST",), "management", "Load a model in a llama-server."
    ),
    CataloguedRoute(
        "/api/v1/llama-cpp/{name}/models/{model}/unload", ("POST",), "management", "Unload a model of a llama-server."
    ),
)
