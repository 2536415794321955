"""The options that say how requests reach an instance."""

from __future__ import annotations

from typing import Any

import pytest

from instances.domain.options import LAUNCH_OPTIONS, read_options
from instances.domain.serving import NUMBERS, SERVING_OPTIONS, SWITCHES, describe_ttl, effective_ttl_s
from instances.errors import InvalidOptions


def options(**given: object) -> dict[str, object]:
    return {"backend_type": "llama_cpp", **given}


def stored(**given: object) -> dict[str, Any]:
    return read_options(options(**given)).options


def fault(name: str, value: object) -> str:
    with pytest.raises(InvalidOptions) as caught:
        read_options(options(**{name: value}))
    assert list(caught.value.fields) == [name]
    return caught.value.fields[name]


def test_what_is_absent_or_null_is_not_stored_so_that_the_settings_go_on_counting() -> None:
    assert not set(stored()) & set(SERVING_OPTIONS)
    assert not set(stored(**dict.fromkeys(SERVING_OPTIONS))) & set(SERVING_OPTIONS)


@pytest.mark.parametrize("name", list(NUMBERS))
def test_numbers_keep_every_value_between_their_bounds(name: str) -> None:
    smallest, largest, meaning = NUMBERS[name]
    for value in (smallest, 0, 1, 4.0, largest):
        assert stored(**{name: value})[name] == value
    for value in (smallest - 1, largest + 1):
        assert fault(name, value) == f"{name} must be from {smallest} to {largest} ({meaning}), not {value}."
    for odd in ("3", True, 1.5, [], {}):
        assert fault(name, odd).startswith(f"{name} must be a whole number (")


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_keep_false_and_take_nothing_but_truth_values(name: str) -> None:
    assert stored(**{name: False})[name] is False
    assert stored(**{name: True})[name] is True
    for odd in (0, "true", []):
        assert fault(name, odd).startswith(f"{name} must be true or false, not ")


def test_aliases_are_trimmed_and_counted_once_in_their_order() -> None:
    wanted = read_options(options(aliases=[" org/model:latest ", "GPT 4.1", "org/model:latest", "ä"]))
    assert wanted.options["aliases"] == ["org/model:latest", "GPT 4.1", "ä"]
    assert wanted.warnings == ['aliases: "org/model:latest" was given twice and counts once.']
    assert "aliases" not in stored(aliases=[])


@pytest.mark.parametrize(
    ("aliases", "complaint"),
    [
        ("a", "must be a list of texts"),
        (["a", 1], "must be a list of texts"),
        ([["a"]], "must be a list of texts"),
        ({}, "must be a list of texts"),
        (["a", ""], '"" is empty; write a name or leave it out'),
        (["  "], '"" is empty'),
        (["a\nb"], "contains a control character"),
        (["a\0b"], "contains a control character"),
        (["a\ud800b"], "contains a control character"),
        (["a\u202eb"], "contains a control character"),
        (["a,b"], "contains a comma; write two aliases"),
        (["x" * 201], "is too long; an alias has at most 200 characters"),
        ([f"a{n}" for n in range(51)], "at most 50 are possible, not 51; remove some"),
    ],
)
def test_aliases_that_cannot_work_are_named_with_the_remedy(aliases: object, complaint: str) -> None:
    assert complaint in fault("aliases", aliases)


def test_as_many_and_as_long_aliases_as_allowed_are_taken() -> None:
    longest = [f"{number:03d}" + "x" * 197 for number in range(50)]
    assert stored(aliases=longest)["aliases"] == longest


def test_the_engines_model_name_is_a_line_of_text() -> None:
    assert stored(use_model_name=" org/model ")["use_model_name"] == "org/model"
    assert "use_model_name" not in stored(use_model_name=" ")
    assert fault("use_model_name", 5) == "use_model_name must be a text, not 5."
    assert "control character" in fault("use_model_name", "a\tb")
    assert "at most 1000" in fault("use_model_name", "x" * 1001)


def test_a_name_nearly_right_is_asked_about() -> None:
    assert "Did you mean concurrency_limit?" in read_options(options(concurency_limit=1)).warnings[0]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 30 * 60),
        ({"idle_timeout": 2}, 120),
        ({"idle_timeout": 0}, 0),
        ({"idle_timeout": 2, "ttl": -1}, 120),
        ({"idle_timeout": 2, "ttl": 0}, 0),
        ({"idle_timeout": 0, "ttl": 7}, 7),
        ({"idle_timeout": 2, "ttl": 45}, 45),
    ],
)
def test_seconds_of_idleness_win_over_minutes_unless_they_are_minus_one(given: dict[str, int], seconds: int) -> None:
    assert effective_ttl_s(given) == seconds


def test_a_time_to_live_is_told_in_the_unit_it_was_given_in() -> None:
    assert [describe_ttl(seconds) for seconds in (60, 1800, 45, 90)] == ["1 min", "30 min", "45 s", "90 s"]


def test_none_of_them_needs_a_new_process() -> None:
    assert not set(SERVING_OPTIONS) & set(LAUNCH_OPTIONS)
