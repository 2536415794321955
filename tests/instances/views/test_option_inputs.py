"""Options survive the way through the form, whatever they are."""

from __future__ import annotations

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from instances.backends.base import Backend, NamesFile, OptionField, OptionKind
from instances.backends.registry import BACKENDS
from instances.option_inputs import Row, read_extra, read_options, read_rows, read_texts, show_extra, show_options

SAMPLES = {
    OptionKind.BOOL: (True, False),
    OptionKind.INT: (0, -1, 4096),
    OptionKind.FLOAT: (0, 0.5, -1),
    OptionKind.STR: ("text", "two words", "a=b,c"),
    OptionKind.LIST: (["a"], ["a b", "c,d"]),
}
CASES = [
    pytest.param(backend, option, id=f"{backend.type}-{option.name}")
    for backend in BACKENDS.values()
    for option in backend.fields
    if option.name not in ("port", "host", "command", "stop_command", "health_path", "proxy", "api_prefix")
    and not option.pair
]


def send(backend: Backend, stored: dict[str, object]) -> QueryDict:
    """Show options and send the inputs as a browser would, with CR LF."""
    data = QueryDict(mutable=True)
    for entry in show_options(backend, stored):
        data[entry.key] = entry.text.replace("\n", "\r\n")
    return data


@pytest.mark.parametrize(("backend", "option"), CASES)
def test_every_option_goes_through_the_form_unchanged(backend: Backend, option: OptionField) -> None:
    for value in ("on", "auto") if option.switch else SAMPLES.get(option.kind, ()):
        # A custom command needs its command; it has no aliases or types to bring into a canonical form.
        given = {option.name: value}
        stored = given if backend.type == "command" else backend.normalize_options(given).options
        assert read_options(read_texts(backend, send(backend, stored))) == stored


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], include_characters="\n\t"), max_size=40)


@given(TEXT.filter(str.strip))
def test_texts_keep_every_blank_and_line(text: str) -> None:
    backend = BACKENDS["llama_cpp"]
    option = next(o for o in backend.fields if o.name == "grammar")
    assert option.names_file is NamesFile.NO
    assert read_options(read_texts(backend, send(backend, {"grammar": text}))) == {"grammar": text}


ROW = st.builds(Row, st.sampled_from(["x_a", "b_c", "x_d"]), st.text("xy= -", max_size=5))


@given(st.lists(ROW, max_size=6))
def test_extra_arguments_keep_their_values_and_repetitions(rows: list[Row]) -> None:
    data = QueryDict(mutable=True)
    data.setlist("extra_name", [row.name for row in rows] + [""])
    data.setlist("extra_value", [row.value for row in rows] + [""])
    stored = BACKENDS["llama_cpp"].normalize_options({"extra_args": read_extra(read_rows(data, "extra"))}).options
    assert sorted(show_extra(stored), key=lambda row: row.name) == sorted(rows, key=lambda row: row.name)


def test_a_path_prefix_goes_through_the_form_unchanged() -> None:
    backend = BACKENDS["llama_cpp"]
    assert read_options(read_texts(backend, send(backend, {"api_prefix": "/llm"}))) == {"api_prefix": "/llm"}
