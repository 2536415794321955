"""Creating and changing instances by the form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from instances.models import Instance
from tests.factories import make_instance

ClientOf = Callable[[User], Client]
NEW = "/instances/new/"
BASE = {"name": "alpha", "backend_type": "llama_cpp", "action": "save"}


def faults(answer: Any) -> dict[str, str]:
    return dict(answer.context["draft"].faults)


def test_a_saved_instance_has_what_was_entered_and_is_not_started(client: Client) -> None:
    answer = client.post(
        NEW,
        {
            **BASE, "option.model": " /m/a.gguf ", "option.temp": "0", "option.mmap": "false",
            "option.lora": "a\r\nb\r\n", "option.grammar": "x\r\n y ",
            "extra_name": ["--new-flag", "twice", "twice", ""],
            "extra_value": ["", "1", "2", ""], "environment_name": "A", "environment_value": " 1 ",
            "idle_timeout": "0",
            "on_demand_start": "on", "port": "8123", "docker_enabled": "", "group": "g", "pinned": "on",
        },
    )  # fmt: skip
    assert answer.headers["Location"] == "/instances/alpha/"
    row = Instance.objects.get(name="alpha")
    assert row.options["backend_options"] == {
        "model": "/m/a.gguf", "temp": 0, "mmap": False, "lora": ["a", "b"], "grammar": "x\n y ",
        "extra_args": {"new_flag": "", "twice": ["1", "2"]},
    }  # fmt: skip
    assert row.options["environment"] == {"A": " 1 "}
    wishes = [row.options[name] for name in ("idle_timeout", "on_demand_start", "auto_restart")]
    assert wishes == [0, True, False]
    assert (row.port, row.port_is_fixed, row.group, row.pinned) == (8123, True, "g", True)
    assert (row.desired_state, row.owner.username) == ("stopped", "ada")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": "x" * 51}, "name"),
        ({"backend_type": "nonsense"}, "backend_type"),
        ({"port": "70000"}, "port"),
        ({"port": "1"}, "port"),
        ({"port": "many"}, "port"),
        ({"idle_timeout": "-1"}, "idle_timeout"),
        ({"max_restarts": "9" * 30}, "max_restarts"),
        ({"group": "a b"}, "group"),
        ({"option.ctx_size": "large"}, "option.ctx_size"),
        ({"option.temp": "nan"}, "option.temp"),
        ({"option.model": "a\x07b"}, "option.model"),
        ({"option.host": "not a host"}, "option.host"),
        ({"extra_name": "a b", "extra_value": "1"}, "extra"),
        ({"environment_name": "1A", "environment_value": "1"}, "environment"),
        ({"preset_ini": "[a]\nno sense\n[["}, "preset_ini"),
        ({"command_override": "a\x07b"}, "command_override"),
    ],
)
def test_a_fault_stands_beside_its_field_and_nothing_is_saved(client: Client, fields: dict[str, str], key: str) -> None:
    answer = client.post(NEW, {**BASE, "option.threads": "7", **fields}, headers={"HX-Request": "true"})
    assert answer.status_code in (409, 422)
    assert list(faults(answer)) == [key]
    assert 'value="7"' in answer.content.decode()
    assert not Instance.objects.exists()


def test_all_faults_of_options_are_shown_at_once(client: Client) -> None:
    answer = client.post(NEW, {**BASE, "option.temp": "hot", "option.threads": "many", "port": "x"})
    assert set(faults(answer)) == {"option.temp", "option.threads", "port"}


def test_a_taken_name_and_a_taken_port_are_conflicts(client: Client) -> None:
    make_instance("alpha", port=8001)
    assert client.post(NEW, BASE).status_code == 409
    answer = client.post(NEW, {**BASE, "name": "beta", "port": "8001"})
    assert answer.status_code == 409
    assert "already allocated" in faults(answer)["port"]


def test_too_many_instances_are_said_above_the_form(client: Client, change_settings: Callable[..., None]) -> None:
    change_settings(max_instances=0)
    answer = client.post(NEW, BASE)
    assert answer.status_code == 409
    assert answer.context["draft"].general == ["maximum number of instances (0) reached"]


def test_a_failed_start_does_not_undo_the_saving(client: Client) -> None:
    answer = client.post(NEW, {**BASE, "action": "start"})
    assert answer.headers["Location"] == "/instances/alpha/"
    assert "does not answer" in client.get("/instances/alpha/").content.decode()


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"option.model": "/etc/passwd"}, "option.model"),
        ({"backend_type": "command", "option.command": "sh -c x --port ${PORT}"}, "backend_type"),
        ({"extra_name": "chat_template_file", "extra_value": "/etc/passwd"}, "option.chat_template_file"),
    ],
)
def test_operators_are_told_beside_the_field_what_only_administrators_may(
    operator: User, client_of: ClientOf, fields: dict[str, str], key: str
) -> None:
    answer = client_of(operator).post(NEW, {**BASE, **fields})
    assert answer.status_code == 403
    assert list(faults(answer)) == [key]
    assert not Instance.objects.exists()


def test_operators_cannot_slip_in_an_environment(operator: User, client_of: ClientOf) -> None:
    client = client_of(operator)
    assert "environment_name" not in client.get(NEW).content.decode()
    variable = {"environment_name": "LD_PRELOAD", "environment_value": "x"}
    client.post(NEW, {**BASE, **variable, "command_override": "/bin/sh"})
    stored = Instance.objects.filter(name="alpha").values_list("options", flat=True).first() or {}
    assert "environment" not in stored
    assert "command_override" not in stored


def test_what_an_administrator_granted_stays_when_the_owner_saves(operator: User, client_of: ClientOf) -> None:
    granted = {"environment": {"TOKEN": "hush"}, "command_override": "/opt/llama"}
    instance = make_instance("alpha", owner=operator, options={"backend_options": {}, **granted})
    client = client_of(operator)
    content = client.get("/instances/alpha/edit/").content.decode()
    assert "An administrator has set environment and command_override" in content
    assert "hush" not in content
    client.post("/instances/alpha/edit/", {"backend_type": "llama_cpp", "version": "0", "group": "mine"})
    instance.refresh_from_db()
    assert instance.group == "mine"
    assert {name: instance.options.get(name) for name in granted} == granted


def test_only_administrators_are_offered_engines_that_run_any_program(
    client: Client, operator: User, client_of: ClientOf
) -> None:
    granted = make_instance("alpha", owner=operator, backend_type="command", options={"backend_options": {}})
    offer = '<option value="command"'
    assert offer in client.get(NEW).content.decode()
    assert offer not in client_of(operator).get(NEW).content.decode()
    assert offer in client_of(operator).get(f"/instances/{granted.name}/edit/").content.decode()


@pytest.mark.parametrize(
    ("fields", "warns"),
    [
        ({}, True),
        ({"option.model": "/m/a.gguf"}, False),
        ({"option.models_dir": "/m"}, False),
        ({"option.gpt_oss_20b_default": "true"}, False),
        ({"preset_ini": "[a]\nmodel = /m/a.gguf\n"}, False),
        ({"environment_name": "LLAMA_ARG_HF_REPO", "environment_value": "org/model"}, False),
        ({"backend_type": "vllm"}, False),
        ({"action": "save"}, False),
    ],
)
def test_starting_a_router_without_models_warns(client: Client, fields: dict[str, str], warns: bool) -> None:
    answer = client.post(NEW, {**BASE, "action": "start", **fields})
    assert answer.headers["Location"] == "/instances/alpha/"
    said = " ".join(str(message) for message in get_messages(answer.wsgi_request))
    assert ("runs as a router without models" in said) is warns


def test_a_pasted_address_is_left_out_and_the_notice_says_so(client: Client) -> None:
    command = "llama-server -m a.gguf --port 9999 --host 0.0.0.0"
    typed = {"port": "8123", "option.host": "127.0.0.1"}
    answer = client.post(NEW, {**BASE, **typed, "action": "command", "command_line": command})
    draft = answer.context["draft"]
    texts = {entry.field.name: entry.text for entry in draft.inputs if entry.text}
    assert texts == {"model": "a.gguf", "host": "127.0.0.1"}
    assert draft.form["port"].value() == "8123"
    assert [str(message) for message in answer.context["messages"]] == [
        "Read 1 value from the command.",
        "Port 9999 and host 0.0.0.0 were left out: Corral chooses where an engine listens.",
    ]


def test_an_emptied_field_is_removed(client: Client) -> None:
    instance = make_instance("alpha", options={"backend_options": {"temp": 1, "extra_args": {"x": "1"}}}, group="g")
    client.post("/instances/alpha/edit/", {"backend_type": "llama_cpp", "version": "0", "group": ""})
    instance.refresh_from_db()
    assert instance.options["backend_options"] == {}
    assert instance.group == ""


@pytest.mark.parametrize("backend", ["llama_cpp", "vllm", "mlx_lm", "command", "nonsense"])
def test_every_engine_has_a_form(client: Client, backend: str) -> None:
    assert client.get(f"{NEW}?engine={backend}").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[]", b"{}", b"null", b'{"options": []}', b'{"options": {"backend_type": "x"}}',
        b"[" * 100000,
        b'{"options": {"backend_type": "vllm", "llama_server_options": {}}}',
        b'{"options": {"backend_type": "llama_cpp", "backend_options": []}}',
        b'{"options": {"backend_type": "llama_cpp", "backend_options": {"ctx_size": "x"}}}',
        b'{"options": {"backend_type": ["llama_cpp"]}}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_instance_is_refused_with_a_sentence(client: Client, content: bytes) -> None:
    answer = client.post(NEW, {**BASE, "action": "import", "definition": SimpleUploadedFile("x.json", content)})
    assert answer.status_code == 422
    assert faults(answer)["definition"].endswith(".")
    assert "alpha" in answer.content.decode()


@pytest.mark.parametrize(
    "options",
    [
        {"environment": [1], "group": {}, "idle_timeout": [], "docker_enabled": "x", "preset_ini": 7, "pinned": "x"},
        {"environment": {"A": None}, "backend_options": {"extra_args": {"x_a": [True, "b"], "x_c": False}}},
    ],
)
def test_an_odd_file_fills_the_form_as_far_as_it_goes(client: Client, options: dict[str, Any]) -> None:
    definition = {"name": 5, "options": {"backend_type": "llama_cpp", **options}}
    file = SimpleUploadedFile("x.json", json.dumps(definition).encode())
    assert client.post(NEW, {**BASE, "action": "import", "definition": file}).status_code == 200


def test_an_older_dashboards_file_is_read_without_its_port(client: Client) -> None:
    definition = {"name": "old", "options": {"llama_server_options": {"m": "/m/a.gguf", "ngl": "16", "port": 8000}}}
    file = SimpleUploadedFile("x.json", json.dumps(definition).encode())
    draft = client.post(NEW, {**BASE, "action": "import", "definition": file}).context["draft"]
    texts = {entry.field.name: entry.text for entry in draft.inputs if entry.text}
    assert texts == {"model": "/m/a.gguf", "gpu_layers": "16"}
    assert (draft.name, draft.form["port"].value()) == ("old", None)


def test_the_preview_masks_secrets(client: Client) -> None:
    fields = {
        "option.model": "m", "option.api_key": "hush", "option.hf_token": "hush", "extra_name": "auth_token",
        "extra_value": "hush", "environment_name": "TOKEN", "environment_value": "hush", "option.ctx_size": "5",
    }  # fmt: skip
    headers = {"HX-Request": "true", "HX-Target": "command-preview"}
    content = client.post(NEW, {**BASE, **fields, "action": "preview"}, headers=headers).content.decode()
    assert "--ctx-size 5" in content
    assert "TOKEN=****" in content
    assert "hush" not in content


def test_model_files_are_offered(client: Client, change_settings: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    change_settings(models_dirs=[tmp_path])
    assert f'<option value="{tmp_path}/a.gguf">' in client.get(NEW).content.decode()
