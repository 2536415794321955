"""A Corral in front of real engines, for the tests with OpenAI's and Anthropic's own client libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import openai

from tests.system.stack import FAKE_ENGINE, ROOT, Stack, poll

QUESTION: list[Any] = [{"role": "user", "content": "What do cattle do near old fences?"}]
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 7}

TOOL = "OpenGate"
GATES = {"type": "object", "properties": {"gate": {"type": "string", "enum": ["north", "south"]}}, "required": ["gate"]}
# llama-server takes a template with these two marks for Functionary's. In that dialect a call is ">>>OpenGate\n{...}",
# and plain content begins with ">>>all\n".
TOOL_TEMPLATE = """{#- >>>all >>>${recipient} -#}
{%- for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}{% for message in messages %}<{{ message.role }}> {{ message.content }}
{% endfor %}"""
# The grammar of a required call leaves a senseless model some choices, between tokens of equal weight. With these
# parameters the one with the lowest number wins: a capital letter before a small one, the end before another call.
LOWEST: dict[str, Any] = {"temperature": 0, "top_k": 0, "top_p": 1}

_MAKE_KEYS = """
import django; django.setup()
from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key
from accounts.enums import PermissionMode
from accounts.models import User
from instances.models import Instance, KeyPermission
admin = User.objects.get(username="admin")
for name, mode in (("sdk", PermissionMode.ALLOW_ALL), ("narrow", PermissionMode.PER_INSTANCE)):
    row, plain = create_key(actor=CORRAL, user=admin, name=name, permission_mode=mode)
    print(plain)
KeyPermission.objects.create(api_key=row, instance=Instance.objects.get(name="fake"))
"""


class Sdks:
    """A stack with the ready instances `llama`, `tools`, `embedder`, `mlx` and `fake`, and clients for it.

    `key` opens them all, `narrow_key` only `fake`. Clients repeat no request unless they are made to.
    """

    def __init__(self, stack: Stack, folder: Path, *, gguf: Path, hf: Path) -> None:
        self.stack = stack
        self.origin = f"http://127.0.0.1:{stack.port}"
        template = folder / "tools.jinja"
        template.write_text(TOOL_TEMPLATE)
        model = {"model": str(gguf), "threads": 1}
        self.create("mlx", "mlx_lm", {"model": str(hf)}, start=True)
        self.create("llama", "llama_cpp", {**model, "ctx_size": 16384, "parallel": 2}, start=True)
        tools = {"ctx_size": 4096, "parallel": 1, "chat_template_file": str(template)}
        self.create("tools", "llama_cpp", {**model, **tools}, start=True)
        self.create("embedder", "llama_cpp", {**model, "ctx_size": 2048, "embeddings": True, "pooling": "mean"})
        self.create_fake("fake")
        for name in ("embedder", "fake"):
            assert stack.act(name, "start").status_code == 200
        self.key, self.narrow_key = self._make_keys()
        for name in ("mlx", "llama", "tools", "embedder", "fake"):
            stack.wait_for(name, "ready")

    def create(
        self, name: str, kind: str, backend_options: Mapping[str, Any], *, start: bool = False, **options: Any
    ) -> None:
        """Make an instance."""
        body = {"backend_type": kind, "backend_options": backend_options, "idle_timeout": 0, **options}
        params = {"start": str(start).lower()}
        answer = self.stack.api.post(f"/api/v1/instances/{name}", params=params, json=body)
        assert answer.status_code == 201, answer.text

    def create_fake(self, name: str, *flags: str, **options: Any) -> None:
        """Make an instance of the fake engine, which nothing has started yet."""
        command = [sys.executable, "-I", "-S", str(FAKE_ENGINE), "--port", "${PORT}", *flags]
        self.create(name, "command", {"command": command}, restart_delay=1, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        """A client that waits for its answers."""
        return openai.OpenAI(**self._options("/v1", options))

    def async_openai(self, **options: Any) -> openai.AsyncOpenAI:
        """A client for an event loop."""
        return openai.AsyncOpenAI(**self._options("/v1", options))

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        """A client that waits for its answers."""
        return anthropic.Anthropic(**self._options("", options))

    def async_anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        """A client for an event loop."""
        return anthropic.AsyncAnthropic(**self._options("", options))

    def _options(self, path: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": self.origin + path, "api_key": self.key, "max_retries": 0, "timeout": 60, **options}

    def find_record(self, request_id: str | None) -> dict[str, Any]:
        """The row of the activity for a request that is over; it is written a little later."""
        assert request_id

        def find() -> list[dict[str, Any]]:
            answer = self.stack.api.get("/api/v1/activity", params={"request_id": request_id})
            assert answer.status_code == 200, answer.text
            return list(answer.json())

        (record,) = poll(find, what=f"a row for {request_id}")
        return record

    def _make_keys(self) -> list[str]:
        environment = {**self.stack.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
        command = [sys.executable, "-c", _MAKE_KEYS]
        made = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, timeout=60)
        return made.stdout.decode().split()
