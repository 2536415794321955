"""Reading an instance's options."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from instances.domain.groups import Group
from instances.domain.options import COUNTS, read_options
from instances.domain.presets import PRESET_BYTES, PresetLine, read_preset
from instances.errors import InvalidOptions


def options(**given: object) -> dict[str, object]:
    return {"backend_type": "llama_cpp", **given}


def faults(**given: object) -> dict[str, str]:
    with pytest.raises(InvalidOptions) as caught:
        read_options(options(**given))
    return caught.value.fields


def test_defaults_are_stored_so_that_later_settings_change_nothing(change_settings: Any) -> None:
    change_settings(default_idle_timeout=7, default_auto_restart=False)

    stored = read_options(options()).options

    assert (stored["idle_timeout"], stored["auto_restart"]) == (7, False)
    change_settings(default_idle_timeout=9)
    assert read_options(options(**stored)).options == stored


@pytest.mark.parametrize("name", ["auto_restart", "on_demand_start", "docker_enabled", "pinned", "disabled"])
@pytest.mark.parametrize("value", [1, "true", [], {}])
def test_truth_values_are_true_or_false(name: str, value: object) -> None:
    assert faults(**{name: value})[name].startswith(f"{name} must be true or false, not ")


@pytest.mark.parametrize("name", list(COUNTS))
def test_counts_are_whole_and_bounded(name: str) -> None:
    for value in ("3", True, 1.5, [], {}):
        assert f"{name} must be a whole number" in faults(**{name: value})[name]
    assert f"at most {COUNTS[name]}" in faults(**{name: COUNTS[name] + 1})[name]
    for value in (0, 4.0, COUNTS[name]):
        assert read_options(options(**{name: value})).options[name] == value


@pytest.mark.parametrize("name", ["preset_ini", "command_override", "group"])
def test_texts_are_texts(name: str) -> None:
    assert faults(**{name: 1})[name] == f"{name} must be a text, not 1."
    assert name in faults(**{name: "a\0b"})


def test_null_is_absent() -> None:
    names = ["nodes", "backend_options", "environment", "preset_ini", "docker_enabled", "group", "idle_timeout"]

    assert read_options(options(**dict.fromkeys(names))) == read_options(options())


@pytest.mark.parametrize(
    "environment", [[], {"A": 1}, {"A": None}, {"": "x"}, {"1A": "x"}, {"A=B": "x"}, {"A-B": "x"}, {"A": "x" * 200_000}]
)
def test_environment_needs_names_and_texts(environment: object) -> None:
    assert list(faults(environment=environment)) == ["environment"]


def test_a_missing_or_wrong_engine_names_the_choices() -> None:
    for raw in ({}, {"backend_type": "x"}, {"backend_type": ""}):
        with pytest.raises(InvalidOptions, match=r"must be one of command, llama_cpp, mlx_lm, vllm") as caught:
            read_options(raw)
        assert list(caught.value.fields) == ["backend_type"]


def test_an_older_key_of_another_engine_is_refused() -> None:
    assert "vllm_server_options" in faults(vllm_server_options={})


def test_docker_and_a_command_of_ones_own_exclude_each_other(change_settings: Any) -> None:
    wanted = read_options(options(docker_enabled=True, command_override="/opt/x"))
    assert wanted.options["docker_enabled"] is True
    assert "command_override" not in wanted.options
    assert wanted.warnings == ["command_override was ignored: the engine runs in Docker."]

    change_settings(backends_llama_cpp_docker_enabled=True)
    assert "command_override" not in read_options(options(command_override="/opt/x")).options
    kept = read_options(options(command_override="/opt/x", docker_enabled=False))
    assert kept.options["command_override"] == "/opt/x"


def test_what_an_engine_cannot_use_is_left_out_with_a_warning() -> None:
    wanted = read_options({"backend_type": "mlx_lm", "docker_enabled": True, "preset_ini": "[a]\nb = c"})

    assert not {"docker_enabled", "preset_ini"} & set(wanted.options)
    assert len(wanted.warnings) == 2


def test_the_port_is_taken_out_of_the_engines_options() -> None:
    wanted = read_options(options(backend_options={"port": 8003, "model": "a"}))

    assert wanted.port == 8003
    assert wanted.options["backend_options"] == {"model": "a"}
    assert read_options(options(backend_options={"port": 0})).port == 0
    assert settings.CORRAL.ports[0] == 8000


PRESET = """version = 1
; a comment
[*]
c = 4096

[ggml-org/a:Q8_0]  # the first
  model = /m/a = b.gguf
C = 1
c=2
"""


def test_a_preset_is_read_line_by_line() -> None:
    model = "ggml-org/a:Q8_0"

    assert read_preset(PRESET) == [
        PresetLine("", "version", "1"),
        PresetLine("*", "c", "4096"),
        PresetLine(model, "model", "/m/a = b.gguf"),
        PresetLine(model, "C", "1"),
        PresetLine(model, "c", "2"),
    ]


@pytest.mark.parametrize(("text", "line"), [("a\n", 1), ("[a]\nb = 1\n[c\n", 3), ("= 1\n", 1), ("[]\n", 1)])
def test_a_line_that_is_none_is_named(text: str, line: int) -> None:
    assert f"line {line} is neither" in faults(preset_ini=text)["preset_ini"]


def test_a_preset_has_a_size() -> None:
    with pytest.raises(InvalidOptions, match="larger than 256 KiB"):
        read_preset("#" * (PRESET_BYTES + 1))


@given(st.text(max_size=200))
def test_any_text_is_a_preset_or_an_invalid_one(text: str) -> None:
    lines: list[PresetLine] = []
    with contextlib.suppress(InvalidOptions):
        lines = read_preset(text)

    assert all(line.key.strip() == line.key != "" for line in lines)


def test_a_group_that_is_not_defined_where_groups_are_is_warned_of(change_settings: Any) -> None:
    def warnings(group: str) -> list[str]:
        return read_options({"backend_type": "llama_cpp", "group": group}).warnings

    assert warnings("bgi") == []
    change_settings(groups={"big": Group(), "small": Group()}, group_limits={"limited": 1})
    expected = "group: the group bgi is not among CORRAL_GROUPS (big, small), so it makes nobody give way."
    assert warnings("bgi") == [expected]
    assert warnings("big") == warnings("limited") == warnings("") == []
