"""The command line that is shown before anything is saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from instances.domain.options import read_options
from instances.domain.preview import preview_command
from instances.errors import InvalidOptions

pytestmark = pytest.mark.any_database


def preview(**options: object) -> list[str]:
    wanted = read_options({"backend_type": "llama_cpp", **options})
    return [line.strip(" \\") for line in preview_command(name="alpha", wanted=wanted).splitlines()]


def test_each_option_has_a_line_and_is_quoted_for_a_shell() -> None:
    lines = preview(backend_options={"model": "/m/a b.gguf", "defrag_thold": -1, "port": 8123})
    assert lines[0].endswith("llama-server")
    assert "--model '/m/a b.gguf'" in lines
    assert "--defrag-thold -1" in lines
    assert "--port 8123" in lines


def test_secrets_are_masked_wherever_they_stand() -> None:
    text = "\n".join(
        preview(
            backend_options={"api_key": "hush", "hf_token": "hush", "extra_args": {"other_api_key": ["hush", "hush"]}},
            environment={"ANYTHING": "hush"},
        )
    )
    assert "hush" not in text
    assert "ANYTHING=********" in text


def test_what_only_sounds_like_a_secret_is_shown() -> None:
    wanted = read_options({"backend_type": "mlx_lm", "backend_options": {"model": "m", "max_tokens": 512}})
    assert "--max-tokens 512" in preview_command(name="alpha", wanted=wanted)


def test_a_switch_is_no_secret_whatever_its_name() -> None:
    wanted = read_options({"backend_type": "vllm", "backend_options": {"model": "m", "allow_credentials": True}})
    lines = [line.strip(" \\") for line in preview_command(name="alpha", wanted=wanted).splitlines()]
    assert "--allow-credentials" in lines
    assert "********" not in "".join(lines)


def test_a_container_without_an_image_is_refused_by_name(change_settings: Callable[..., None]) -> None:
    change_settings(backends_llama_cpp_docker_image="")
    with pytest.raises(InvalidOptions) as caught:
        preview(docker_enabled=True)
    assert list(caught.value.fields) == ["docker_enabled"]
