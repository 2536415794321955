"""Hiding secrets in command lines."""

from __future__ import annotations

import shlex

import pytest

from accounts.domain.masking import mask_arguments

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("serve --api-key hush --port 1", "serve --api-key ******** --port 1"),
        ("serve --api-key=hush --port 1", "serve --api-key=******** --port 1"),
        ("vllm serve m --api-key hush hush --dtype auto", "vllm serve m --api-key ******** ******** --dtype auto"),
        ("serve -hft hush --hf-token hush", "serve -hft ******** --hf-token ********"),
        ("docker run -e HF_TOKEN=hush -e A=1 image", "docker run -e HF_TOKEN=******** -e A=1 image"),
        ("serve --upstream http://ann:hush@host/x", "serve --upstream http://ann:********@host/x"),
        ("sh -c 'env TOKEN=hush serve --key hush -p 1'", "sh -c 'env TOKEN=******** serve --key ******** -p 1'"),
        ("docker run -e 'PASSWORD=two words' image", "docker run -e PASSWORD=******** image"),
        ("serve --api-key -hush -p 1", "serve --api-key ******** -p 1"),
        ("curl -H 'Authorization: Bearer hush'", "curl -H 'Authorization: Bearer ********'"),
    ],
)
def test_what_is_announced_as_a_secret_is_masked(command: str, shown: str) -> None:
    assert mask_arguments(shlex.split(command)) == shlex.split(shown)


@pytest.mark.parametrize(
    "command",
    [
        "llama-server --model /m/a.gguf --ctx-size 4096 --api-key-file /k --keep -1",
        "mlx_lm.server --max-tokens 512 --tokenizer t",
        "llama-server --chat-template '{{ bos_token }} {% set token = 1 %}' --cache-type-k q8_0",
        "serve --key",
    ],
)
def test_what_only_sounds_like_a_secret_stays(command: str) -> None:
    assert mask_arguments(shlex.split(command)) == shlex.split(command)
