"""The form's parts about names, queue and time-outs, and what it shows to whom."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from accounts.models import User
from instances.domain.groups import Group
from instances.domain.serving import SERVING_OPTIONS
from instances.models import Instance, InstanceAlias
from tests.factories import make_instance, make_ready

ClientOf = Callable[[User], Client]
NEW = "/instances/new/"
EDIT = "/instances/alpha/edit/"
BASE = {"name": "alpha", "backend_type": "llama_cpp", "action": "save"}
ENTERED = {
    "aliases": "org/model:latest\r\n  the model , other\r\n\r\n",
    "use_model_name": "told",
    "unlisted": "on",
    "preload": "on",
    "ttl": "-1",
    "concurrency_limit": "4",
    "queue_limit": "0",
    "queue_timeout": "60",
    "priority": "-3",
    "send_loading_state": "false",
    "connect_timeout": "1",
    "first_byte_timeout": "2",
    "idle_stream_timeout": "3",
}
STORED = {
    "aliases": ["org/model:latest", "the model", "other"],
    "use_model_name": "told",
    "unlisted": True,
    "preload": True,
    "ttl": -1,
    "concurrency_limit": 4,
    "queue_limit": 0,
    "queue_timeout": 60,
    "priority": -3,
    "send_loading_state": False,
    "connect_timeout": 1,
    "first_byte_timeout": 2,
    "idle_stream_timeout": 3,
}


def faults(answer: Any) -> dict[str, str]:
    return dict(answer.context["draft"].faults)


def serving(instance: Instance) -> dict[str, Any]:
    instance.refresh_from_db()
    return {name: instance.options[name] for name in SERVING_OPTIONS if name in instance.options}


def inputs_of(answer: Any) -> dict[str, str]:
    """What a browser would send back of a page unchanged."""
    form = answer.context["form"]
    sent = {}
    for bound in form:
        value = bound.value()
        if value is True:
            sent[bound.name] = "on"
        elif value is not None and value is not False:
            sent[bound.name] = str(value)
    return {**sent, "version": str(answer.context["version"])}


def test_what_is_entered_is_stored_with_zeros_and_false(client: Client) -> None:
    client.post(NEW, {**BASE, **ENTERED})
    instance = Instance.objects.get()
    assert serving(instance) == STORED
    assert set(InstanceAlias.objects.values_list("alias", flat=True)) == set(STORED["aliases"])


def test_what_is_left_empty_is_not_stored(client: Client) -> None:
    client.post(NEW, BASE)
    assert serving(Instance.objects.get()) == {}


def test_saving_an_unchanged_form_changes_nothing_and_restarts_nothing(client: Client) -> None:
    instance = make_ready("alpha", options={"backend_options": {}, **STORED})
    sent = inputs_of(client.get(EDIT))
    assert sent["aliases"] == "org/model:latest\nthe model\nother"
    assert client.post(EDIT, sent).status_code == 302
    assert serving(instance) == STORED
    assert instance.generation == 1


def test_emptied_fields_are_removed(client: Client) -> None:
    instance = make_instance("alpha", options={"backend_options": {}, **STORED})
    client.post(EDIT, {"backend_type": "llama_cpp", "version": "0"})
    assert serving(instance) == {}


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"aliases": "a\x07b"}, "aliases"),
        ({"aliases": "alpha"}, "aliases"),
        ({"aliases": "taken"}, "aliases"),
        ({"aliases": "beta"}, "aliases"),
        ({"name": "taken"}, "name"),
        ({"use_model_name": "x" * 1001}, "use_model_name"),
        ({"ttl": "-2"}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"priority": "9" * 10}, "priority"),
        ({"queue_limit": "-1"}, "queue_limit"),
        ({"send_loading_state": "perhaps"}, "send_loading_state"),
    ],
)
def test_a_fault_stands_beside_its_field_in_an_open_part(client: Client, fields: dict[str, str], key: str) -> None:
    client.post(NEW, {**BASE, "name": "beta", "aliases": "taken"})
    answer = client.post(NEW, {**BASE, **fields})
    assert answer.status_code in (409, 422)
    assert list(faults(answer)) == [key]
    for section in answer.context["draft"].sections:
        if key in [bound.name for bound in section.fields]:
            assert section.is_open
    assert Instance.objects.count() == 1


def test_parts_that_few_need_are_closed_until_something_in_them_is_set(client: Client) -> None:
    assert [part.is_open for part in client.get(NEW).context["draft"].sections] == [False, False, False]
    make_instance("alpha", options={"backend_options": {}, "queue_limit": 0})
    assert [part.is_open for part in client.get(EDIT).context["draft"].sections] == [False, True, False]


def test_every_field_has_a_label_and_what_is_not_plain_a_sentence(client: Client) -> None:
    content = client.get(NEW).content.decode()
    for name in SERVING_OPTIONS:
        assert re.search(
            rf'<label[^>]* for="id_{name}"|<label class="form-check[^>]*><input[^>]* id="id_{name}"', content
        )
        assert f'id="id_{name}_help"' in content or name == "send_loading_state"


def test_a_copy_leaves_the_aliases_to_the_original(client: Client) -> None:
    make_instance("alpha", options={"backend_options": {}, **STORED})
    form = client.get(f"{NEW}?copy=alpha").context["form"]
    assert form["aliases"].value() == ""
    assert form["queue_timeout"].value() == 60


def test_a_fault_of_an_extra_argument_stands_beside_the_extra_arguments(client: Client) -> None:
    fields = {"extra_name": ["fine", "--new-flag"], "extra_value": ["1", "a\x07b"]}
    answer = client.post(NEW, {**BASE, **fields})
    assert list(faults(answer)) == ["extra"]
    assert faults(answer)["extra"].startswith("new_flag: ")
    assert answer.context["draft"].advanced_has_faults


GRANTED = {
    "backend_options": {
        "host": "0.0.0.0", "slot_save_path": "/var/slots", "ctx_size": 1, "extra_args": {"tools": "all", "x": ""}
    },
    "environment": {"TOKEN": "hush"},
    "command_override": "/opt/llama",
    "preset_ini": "[a]\nctx-size = 1\n",
}  # fmt: skip


def test_operators_are_not_shown_what_only_administrators_may_set(
    client: Client, operator: User, client_of: ClientOf
) -> None:
    make_instance("alpha", owner=operator, options=GRANTED)
    hidden = [
        'name="option.host"', 'name="option.slot_save_path"', 'name="option.models_preset"', 'name="preset_ini"',
        'name="extra_name"', 'name="environment_name"', 'name="command_override"',
    ]  # fmt: skip
    for page in (NEW, EDIT):
        whole, told = (visitor.get(page).content.decode() for visitor in (client, client_of(operator)))
        for administrators in hidden:
            assert administrators in whole
            assert administrators not in told
        assert 'name="option.ctx_size"' in told
    assert "environment, command_override, preset_ini, host, slot_save_path, tools and x" in told
    assert "hush" not in told


def test_what_an_administrator_set_stays_when_an_operator_saves(operator: User, client_of: ClientOf) -> None:
    instance = make_instance("alpha", owner=operator, options=GRANTED)
    client = client_of(operator)
    sent = {**inputs_of(client.get(EDIT)), "option.ctx_size": "2"}
    for hidden in ("command_override", "preset_ini"):
        del sent[hidden]
    assert client.post(EDIT, sent).status_code == 302
    instance.refresh_from_db()
    expected = {**GRANTED, "backend_options": {**GRANTED["backend_options"], "ctx_size": 2}}
    assert {name: instance.options[name] for name in GRANTED} == expected


def test_an_owner_without_that_right_keeps_an_engine_that_runs_any_program(operator: User, client_of: ClientOf) -> None:
    options = {"backend_options": {"command": "serve --port ${PORT}", "health_path": "none"}}
    instance = make_instance("alpha", owner=operator, backend_type="command", options=options)
    client = client_of(operator)
    page = client.get(EDIT)
    assert 'name="option.command"' not in page.content.decode()
    assert client.post(EDIT, {**inputs_of(page), "queue_limit": "7"}).status_code == 302
    instance.refresh_from_db()
    assert instance.options["backend_options"] == options["backend_options"]
    assert instance.options["queue_limit"] == 7


def test_what_a_pasted_command_says_beyond_an_operators_rights_is_left_out_and_named(
    operator: User, client_of: ClientOf
) -> None:
    command = "llama-server -c 5 --slot-save-path /x --brand-new 1"
    answer = client_of(operator).post(NEW, {**BASE, "action": "command", "command_line": command})
    draft = answer.context["draft"]
    assert {entry.field.name: entry.text for entry in draft.inputs if entry.text} == {"ctx_size": "5"}
    assert draft.extra == []
    assert [str(message) for message in get_messages(answer.wsgi_request)] == [
        "Slot_save_path and brand_new were left out: only administrators may set them.",
        "Read 1 value from the command.",
    ]


def test_a_refusal_about_something_not_shown_stands_above_the_form(operator: User, client_of: ClientOf) -> None:
    answer = client_of(operator).post(NEW, {**BASE, "extra_name": "--tools", "extra_value": "all"})
    assert answer.status_code == 403
    assert faults(answer) == {}
    assert "extra_args.tools: only an administrator may set options" in answer.context["draft"].general[0]


def test_newer_options_of_a_pasted_vllm_command_stand_at_their_inputs(operator: User, client_of: ClientOf) -> None:
    fields = {**BASE, "backend_type": "vllm", "action": "command"}
    command = "vllm serve a/b --enable-lora --max-loras 4 --served-model-name x y"
    draft = client_of(operator).post(NEW, {**fields, "command_line": command}).context["draft"]
    texts = {entry.field.name: entry.text for entry in draft.inputs if entry.text}
    assert texts == {"model": "a/b", "enable_lora": "true", "max_loras": "4", "served_model_name": "x\ny"}
    answer = client_of(operator).post(NEW, {**fields, "command_line": "vllm serve a/b --max-loras many"})
    assert answer.status_code == 422
    assert faults(answer)["command_line"].startswith("max_loras: ")


def test_a_group_that_is_not_defined_is_saved_with_a_warning_and_the_defined_ones_are_offered(
    client: Client, change_settings: Any
) -> None:
    change_settings(groups={"big": Group()}, group_limits={"limited": 1})
    page = client.get(NEW).content.decode()
    assert '<option value="big"></option><option value="limited"></option>' in page
    answer = client.post(NEW, {**BASE, "group": "bgi"})
    assert Instance.objects.get().group == "bgi"
    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert "group: the group bgi is not among CORRAL_GROUPS (big), so it makes nobody give way." in said
