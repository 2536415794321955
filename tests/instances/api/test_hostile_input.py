"""No input makes a 500. Each of these reached, or could reach, the database, the JSON encoder or the stack's end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.conftest import ApiClient
from tests.factories import make_instance

BODIES = [
    b"",
    b"   ",
    b"{",
    b"nope",
    b"\xff\xfe{}",
    b'{"backend_type": "llama_cpp", "idle_timeout": NaN}',
    b'{"backend_type": "llama_cpp", "idle_timeout": Infinity}',
    b'{"backend_type": "llama_cpp", "idle_timeout": 1e999}',
    b'{"backend_type": "llama_cpp", "idle_timeout": ' + b"9" * 5000 + b"}",
    b'{"backend_type": "llama_cpp", "idle_timeout": ' + b"9" * 30 + b"}",
    b'{"backend_type": "llama_cpp", "restart_delay": 1e18}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 40 + b"]" * 40,
    b'{"backend_type": "llama_cpp", "preset_ini": "a\\u0000b"}',
    b'{"backend_type": "llama_cpp", "group": "\\ud800"}',
    b'{"backend_type": "llama_cpp", "environment": {"A\\u0000": "x"}}',
    b'{"backend_type": "llama_cpp", "environment": {"1A": "x"}}',
    b'{"backend_type": "llama_cpp", "environment": {"": "x"}}',
    b'{"backend_type": "llama_cpp", "environment": []}',
    b'{"backend_type": "llama_cpp", "backend_options": "x"}',
    b'{"backend_type": "llama_cpp", "backend_options": {"extra_args": 1}}',
    b'{"backend_type": "llama_cpp", "nodes": "main"}',
    b'{"backend_type": "llama_cpp", "nodes": [1]}',
    b'{"backend_type": "llama_cpp", "docker_enabled": "yes"}',
    b'{"backend_type": "llama_cpp", "command_override": ["a"]}',
    b'{"backend_type": "llama_cpp", "pinned": 1}',
    b'{"backend_type": ["llama_cpp"]}',
    b'{"backend_type": {"a": 1}}',
    b'{"backend_type": 1}',
    b"{}",
    b"[]",
    b"null",
    b'"x"',
    b"1",
    b'{"mlx_server_options": {}, "backend_type": "vllm"}',
    b'{"backend_type": "llama_cpp", "preset_ini": "no section or value\\nx\\ny z"}',
    b'{"backend_type": "llama_cpp", "preset_ini": "' + b"x" * 300_000 + b'"}',
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_400_and_says_why(api: ApiClient, method: str, body: bytes) -> None:
    make_instance("alpha")
    name = "beta" if method == "POST" else "alpha"

    response = api(method, f"instances/{name}", body)

    if method != "POST" and body == b"{}":
        assert response.status_code == 200  # nothing to change is a change, too
        return
    assert response.status_code == 400, response.content[:300]
    assert response.json()["error"] == "invalid_request"
    assert response.json()["details"].startswith("Invalid request body: ")
    assert len(response.json()["details"]) > len("Invalid request body: ")


def test_a_body_over_the_limit_is_413(api: ApiClient) -> None:
    body = b'{"backend_type": "llama_cpp", "preset_ini": "' + b"x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'

    for kind in ("application/json", "application/x-www-form-urlencoded"):
        response = api("POST", "instances/beta", body, content_type=kind)
        assert response.status_code == 413
        assert response.json()["error"] == "body_too_large"


def test_accept_and_format_are_not_looked_at(api: ApiClient) -> None:
    make_instance("alpha")

    for options in ({"headers": {"Accept": "text/html"}}, {"headers": {"Accept": "x"}}):
        assert api("GET", "instances/alpha?format=xml", **options).json()["name"] == "alpha"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "nodes", "backend_type", "backend_options", "auto_restart", "max_restarts", "restart_delay", "on_demand_start",
    "idle_timeout", "environment", "preset_ini", "docker_enabled", "command_override", "group", "pinned", "disabled",
    "llama_server_options", "mlx_server_options", "vllm_server_options",
]  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {"backend_type": st.sampled_from(["llama_cpp", "mlx_lm", "vllm", "command"]) | JSON},
    optional={name: JSON for name in NAMES if name != "backend_type"},
)


@pytest.fixture
def fresh(api: ApiClient) -> Iterator[ApiClient]:
    make_instance("alpha")
    return api


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=OPTIONS, method=st.sampled_from(["PUT", "PATCH"]))
def test_whatever_json_is_sent_the_answer_is_200_or_a_4xx_and_can_be_read_back(
    fresh: ApiClient, options: dict[str, Any], method: str
) -> None:
    response = fresh(method, "instances/alpha", options)

    assert response.status_code in (200, 400, 409), response.content[:300]
    assert fresh("GET", "instances/alpha").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "instances?limit=99999999999999999999",
        "instances?node=%ff%fe",
        "instances?owner=%00&group=%00",
        "instances/%00/events",
        "instances/%ff",
        "instances/a?api_key=%00",
        "instances/" + "x" * 5000,
        "%00",
    ],
)
def test_odd_addresses_are_no_server_errors(api: ApiClient, path: str) -> None:
    assert api("GET", path).status_code in (200, 400, 404)


def test_odd_keys_are_invalid_keys(db: None) -> None:
    for key in ("\xe4\xff", "x" * 5000, "%00"):
        assert ApiClient(key)("GET", "version").status_code == 401
