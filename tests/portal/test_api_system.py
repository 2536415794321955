"""Version, configuration, health, the API's documentation, and rules that hold for every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from accounts.enums import KeyKind
from accounts.models import User
from instances.enums import State
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_ready

KEY_SCHEMES = ("BearerAuth", "BasicAuth", "ApiKeyAuth", "ElevenLabsKeyAuth", "ApiKeyQuery")
PUBLIC = {
    "openapi.json", "swagger/doc.json", "swagger", "swagger/", "health", "wol-health", "readyz",
}  # fmt: skip


def test_version_is_three_lines_of_text(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api("GET", "version").content.decode() == (
        f"Version: {settings.CORRAL_VERSION}\nCommit: unknown\nBuild Time: unknown\n"
    )
    monkeypatch.setenv("BUILD_COMMIT", "abc123")
    assert b"Commit: abc123\n" in api("GET", "version").content


def test_config_has_llamactls_keys_and_no_secret(api: ApiClient, change_settings: Any) -> None:
    """llamactl 11.2-25: the configuration showed the environment's secrets."""
    change_settings(
        backends_llama_cpp_environment={"HF_TOKEN": "hush", "CUDA_VISIBLE_DEVICES": "0"},
        backends_llama_cpp_args=["--api-key", "hush", "--threads", "4"],
        backends_llama_cpp_docker_args=["run", "-e", "MY_SECRET=hush"],
        backends_vllm_docker_environment={"API_KEY": "hush"},
        management_key="hush-management",
        hf_token="hush",
        group_limits={"big": 1},
    )

    response = api("GET", "config")

    shown = response.json()
    assert "hush" not in response.content.decode()
    assert shown["backends"]["llama-cpp"]["environment"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert shown["backends"]["llama-cpp"]["args"] == ["--api-key", "********", "--threads", "4"]
    assert {"server", "backends", "instances", "database", "auth", "local_node", "nodes", "data_dir"} <= set(shown)
    assert set(shown["backends"]) == {"llama-cpp", "vllm", "mlx"}
    assert shown["instances"]["port_range"] == [8000, 9000]
    assert shown["instances"]["group_limits"] == {"big": 1}
    assert shown["instances"]["LogRotationEnabled"] is shown["instances"]["log_rotation_enabled"]
    assert shown["auth"]["management_keys"] == []


def test_health_is_public_and_lists_processes_to_who_may_see_them(admin: User, member: User) -> None:
    make_ready("alpha")
    make_instance("beta", state=State.STARTING)
    make_instance("gamma")

    assert Client().get("/health").content == b'{"status":"ok","models":{}}'
    for nobody in ("wrong", make_key(member, KeyKind.INFERENCE)):
        headers = {"Authorization": f"Bearer {nobody}"}
        assert Client().get("/health", headers=headers).json() == {"status": "ok", "models": {}}
    headers = {"Authorization": f"Bearer {make_key(admin, KeyKind.INFERENCE)}"}
    # byte for byte what llama-swap's reference shows (section 8-1, checklist 20)
    assert Client().get("/health", headers=headers).content == (
        b'{"status":"ok","models":{"alpha":{"status":"running","pid":4711},"beta":{"status":"starting","pid":null}}}'
    )
    assert Client().get("/health", headers={"Accept": "text/plain"}).content == b"OK"
    assert Client().get("/health?format=text").content == b"OK"
    assert Client().get("/wol-health").content == b"OK"


@pytest.mark.parametrize("path", ["/health", "/wol-health", "/readyz"])
def test_health_is_read_with_or_without_a_slash_and_says_so_to_a_client_without_a_csrf_token(
    db: None, path: str
) -> None:
    program = Client(enforce_csrf_checks=True)
    for address in (path, f"{path}/"):
        assert program.get(address).content == program.get(path).content
        assert program.get(address).status_code in (200, 503)
        answer = program.post(address)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert answer.headers["Content-Type"].startswith("text/plain")


def test_readiness_names_what_is_away(db: None) -> None:
    response = Client().get("/readyz")

    assert response.json().get("database") is None
    assert response.status_code == (200 if response.json()["status"] == "ok" else 503)


def test_the_openapi_document_is_public_valid_and_complete(db: None, tmp_path: Any) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "openapi.yaml"))
    document = Client().get("/openapi.json").json()

    assert Client().get("/swagger/doc.json").json() == document
    assert document["openapi"].startswith("3.")
    paths = document["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert {
        "GET /api/v1/version", "GET /api/v1/config", "GET /api/v1/server/help", "GET /api/v1/server/version",
        "GET /api/v1/server/devices", "GET /api/v1/backends/llama-cpp/help", "GET /api/v1/backends/llama-cpp/version",
        "GET /api/v1/backends/llama-cpp/devices", "POST /api/v1/backends/llama-cpp/parse-command",
        "POST /api/v1/backends/mlx/parse-command", "POST /api/v1/backends/vllm/parse-command", "GET /api/v1/instances",
        "POST /api/v1/instances/{name}", "GET /api/v1/instances/{name}", "PUT /api/v1/instances/{name}",
        "PATCH /api/v1/instances/{name}", "DELETE /api/v1/instances/{name}", "POST /api/v1/instances/{name}/start",
        "POST /api/v1/instances/{name}/stop", "POST /api/v1/instances/{name}/restart",
        "GET /api/v1/instances/{name}/logs", "GET /api/v1/instances/{name}/events",
    } <= operations  # fmt: skip
    for path, item in paths.items():
        for method, operation in item.items():
            assert operation["description"], (method, path)
            if path in {"/upstream", "/llama-cpp/{name}/"}:  # public by contract
                continue
            assert "401" in operation["responses"], (method, path)
            assert [{name: []} for name in KEY_SCHEMES] == [
                way for way in operation["security"] if "cookieAuth" not in way
            ]
    schemes = document["components"]["securitySchemes"]
    assert [schemes[name].get("name", schemes[name].get("scheme")) for name in KEY_SCHEMES] == [
        "bearer", "basic", "X-API-Key", "xi-api-key", "api_key",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "schema"),
    [
        ("post", "/v1/chat/completions", "InferenceError"),
        ("post", "/v1/completions", "InferenceError"),
        ("post", "/v1/embeddings", "InferenceError"),
        ("post", "/v1/messages", "MessagesError"),
        ("get", "/v1/models", "InferenceError"),
    ],
)
def test_the_document_says_by_what_inference_is_refused_and_in_which_form(
    db: None, method: str, path: str, schema: str
) -> None:
    document = Client().get("/openapi.json").json()
    answers = document["paths"][path][method]["responses"]
    overloaded = "529" if schema == "MessagesError" else "503"
    refusals = {"401", "403", "404", "429", overloaded}
    if path != "/v1/models":
        refusals |= {"400", "413", "502", "504"}
    assert answers.keys() == refusals | {"200", "default"}
    for status in refusals:
        assert answers[status]["description"]
        form = answers[status]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert form == schema
        assert form in document["components"]["schemas"]


def test_swagger_ui_needs_nothing_from_elsewhere_and_no_inline_script(db: None) -> None:
    page = Client().get("/swagger/")
    text = page.content.decode()

    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*src=)|<style|https?://| on\w+=", text)
    assert '<a href="/">Back to Corral</a>' in text
    scripts = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', text)
    assert scripts
    for url in scripts:
        path = url.replace("&amp;", "&")
        if path.startswith(settings.STATIC_URL):
            assert finders.find(path.removeprefix(settings.STATIC_URL)), path
        else:
            script = Client().get(path)
            assert script.headers["Content-Type"].startswith("application/javascript")
            assert b"/openapi.json" in script.content


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield prefix + str(pattern.pattern), pattern.callback
        else:
            yield from routes(pattern, prefix + str(pattern.pattern))


def test_every_route_has_an_explicit_permission_or_is_known_to_be_public() -> None:
    unprotected = []
    for route, view in routes(get_resolver()):
        view_class = getattr(view, "cls", None)
        if view_class is not None and issubclass(view_class, APIView):
            own = next(cls for cls in view_class.__mro__ if "permission_classes" in vars(cls))
            explicit = own is not APIView
            public = AllowAny in view_class.permission_classes
            if not explicit or (public and route not in PUBLIC):
                unprotected.append(route)
        elif route.startswith("api/"):
            unprotected.append(route)
    assert not unprotected


def test_every_api_route_works_with_and_without_a_slash() -> None:
    found = {route for route, _ in routes(get_resolver()) if route.startswith("api/v1/")}

    with_slash = {route for route in found if route.endswith("/")}
    assert {f"{route}/" for route in found - with_slash} == with_slash


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2/instances", "/api/v1"])
def test_unknown_api_addresses_answer_json(db: None, api: ApiClient, path: str) -> None:
    assert Client().get(path).status_code == 401
    response = api.client.get(path)
    assert response.status_code == 404
    assert response.json()["error"] == "not_found"


def test_a_fault_of_ours_is_json_without_details(admin: User, api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("portal.views.build_information", fail)
    api.client.raise_request_exception = False

    response = api("GET", "version")

    assert response.status_code == 500
    assert response.json()["error"] == "internal_error"
    assert b"inside" not in response.content
