"""Whatever options are built into a command line, reading it again gives them back."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from instances.backends.base import ListForm, OptionError, OptionField, OptionKind, ParseError
from instances.backends.registry import get_backend
from tests.instances.backends.launches import build

ENGINES = ["llama_cpp", "vllm", "mlx_lm"]
# Keys travel in the environment, host and port are the launch's own.
NOT_IN_ARGUMENTS = {"llama_cpp": {"api_key", "hf_token"}, "vllm": set[str](), "mlx_lm": set[str]()}

odd_characters = st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\n\t '\"\\-={}[],;|&$`#*~")
odd_text = st.text(odd_characters, min_size=1, max_size=12)
special_text = st.sampled_from(
    [
        *("-1", "-x", "--", "---", "-", "true", "false", "1", "1e5", "a=b", "{}", '{"a": 1}', "&&", "|", ">", "on"),
        *(
            "C:\\a",
            "it's",
            "a/b",
            " ",
            "\\",
            "\\\n",
            "\u00a0",
            "\u2028",
            "env",
            "sudo",
            "A=1",
            "docker",
            "serve",
            "${X}",
        ),
    ]
)
texts = odd_text | special_text
integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, 1, -1])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1e-5, 1e6, -0.5])
flag_names = st.from_regex(r"\A[a-z][a-z0-9_]{0,8}(\.[a-z0-9_-]{1,4})?\Z")


BY_KIND: dict[OptionKind, st.SearchStrategy[Any]] = {
    OptionKind.BOOL: st.booleans(),
    OptionKind.INT: integers,
    OptionKind.FLOAT: floats,
    OptionKind.LIST: st.lists(texts, min_size=1, max_size=3),
    OptionKind.STR: texts,
}


def values(option: OptionField) -> st.SearchStrategy[Any]:
    if option.switch:
        return st.booleans() | st.sampled_from(["on", "off", "auto"])
    return st.tuples(texts, texts).map(list) if option.pair else BY_KIND[option.kind]


def raw_options(engine: str) -> st.SearchStrategy[dict[str, Any]]:
    fields = [
        option
        for option in get_backend(engine).fields
        if option.name not in {"host", "port"} | NOT_IN_ARGUMENTS[engine]
    ]
    by_name = {option.name: option for option in fields}
    some = st.lists(st.sampled_from(sorted(by_name)), max_size=6, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: values(by_name[name]) for name in chosen})
    )
    repeated = st.lists(texts | st.just(True), min_size=1, max_size=3)
    extra = st.dictionaries(flag_names, texts | st.booleans() | integers | repeated, max_size=3)
    return st.tuples(some, extra).map(lambda parts: {**parts[0], "extra_args": parts[1]})


def as_the_engine_sees_them(engine: str, options: dict[str, Any]) -> dict[str, Any]:
    """What remains of options on a command line: "no" is its own flag or silence, a bare flag has one spelling."""
    backend = get_backend(engine)
    seen: dict[str, Any] = {}
    extra = {key: "true" if value == "" else value for key, value in options.get("extra_args", {}).items()}
    extra = {key: value for key, value in extra.items() if value is not False}
    known = {option.name for option in backend.fields}
    for option in backend.fields:
        value = options.get(option.name)
        if value is None:
            continue
        if value is not False:
            seen[option.name] = value
        elif option.negative:
            negative = option.negative.removeprefix("--").replace("-", "_")
            if negative in known:
                seen[negative] = True
            else:
                extra[negative] = "true"
    return {**seen, "extra_args": extra} if extra else seen


def can_be_told_apart(engine: str, options: dict[str, Any]) -> bool:
    """Leaves out what the engine's own parser couldn't read either.

    llama-server takes the word behind a flag whatever it is, so there a value spelled like a flag is ambiguous to a
    reader. A flag beyond the catalogue might or might not take the word behind it.
    """
    backend = get_backend(engine)
    names = {name for option in backend.fields for name in (option.name, *option.aliases)}
    loose = [text for value in options.values() for text in (value if isinstance(value, list) else [value])]
    pairs = [word for option in backend.fields if option.pair for word in shlex.split(options.get(option.name, ""))]
    for text in (text for text in [*loose, *pairs] if isinstance(text, str) and text.startswith("-")):
        name = text.partition("=")[0].lstrip("-").replace("-", "_")
        if engine == "llama_cpp" and (name in names or name.startswith("no_")):
            return False
    for key, value in options.get("extra_args", {}).items():
        items = value if isinstance(value, list) else [value]
        is_dashed = any(isinstance(item, str) and item.startswith("-") for item in items)
        if (is_dashed and engine == "llama_cpp") or key.startswith(("no_", "enable_", "disable_")) or len(key) == 1:
            return False
    return True


@pytest.mark.parametrize("engine", ENGINES)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_reading_a_built_command_gives_the_options_back(engine: str, data: st.DataObject) -> None:
    backend = get_backend(engine)
    try:
        options = backend.normalize_options(data.draw(raw_options(engine))).options
        assume(can_be_told_apart(engine, options))
        argv = build(engine, options).argv
    except OptionError:
        # The engine's own parser can't be given such a value; the tests of both steps say which.
        assume(False)
    # What llamactl doesn't know is parsed into extra_args, as its contract has it; saving sorts.
    parsed = backend.normalize_options(backend.parse_command(shlex.join(argv)).options).options
    assert (parsed.pop("host"), parsed.pop("port")) == ("127.0.0.1", 8001)
    assert parsed == as_the_engine_sees_them(engine, options)


@pytest.mark.parametrize("engine", ENGINES)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_normalising_twice_changes_nothing(engine: str, data: st.DataObject) -> None:
    backend = get_backend(engine)
    try:
        once = backend.normalize_options(data.draw(raw_options(engine))).options
    except OptionError:
        assume(False)
    assert backend.normalize_options(once).options == once


@pytest.mark.parametrize("engine", [*ENGINES, "command"])
@given(text=st.text(max_size=80) | st.lists(texts | flag_names.map("--{}".format), max_size=8).map(" ".join))
@settings(max_examples=80, deadline=None)
def test_any_text_is_read_or_refused(engine: str, text: str) -> None:
    try:
        outcome: object = get_backend(engine).parse_command(text).options
    except ParseError as error:
        outcome = error.message
    assert isinstance(outcome, dict) or outcome


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("engine", [*ENGINES, "command"])
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_json_is_decoded_or_refused(engine: str, data: st.DataObject) -> None:
    backend = get_backend(engine)
    names = st.sampled_from([option.name for option in backend.fields]) | st.text(max_size=6)
    raw = data.draw(st.dictionaries(names | st.just("extra_args"), json_values, max_size=4) | json_values)
    refusal = None
    try:
        options = backend.normalize_options(raw).options
        command = build(engine, options)
    except OptionError as error:
        refusal = error
    if refusal is not None:
        assert refusal.field
        assert refusal.message
        return
    assert "\0" not in "".join(command.argv)
    assert all(path for _, path in backend.files_named_by(options))
    assert backend.readiness(options).accepted_status == {200}


def test_every_list_form_is_in_the_property() -> None:
    forms = {option.list_form for option in get_backend("vllm").fields if option.kind is OptionKind.LIST}
    assert forms == set(ListForm)


@pytest.mark.parametrize("text", ["true", "false", "auto", "-1", "1"])
def test_a_newer_text_of_vllm_survives_whatever_it_looks_like(text: str) -> None:
    backend = get_backend("vllm")
    command = build("vllm", backend.normalize_options({"mamba_cache_dtype": text}).options)
    parsed = backend.parse_command(shlex.join(command.argv)).options
    assert backend.normalize_options(parsed).options["mamba_cache_dtype"] == text
