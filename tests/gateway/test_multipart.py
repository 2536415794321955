"""Finding the model in forms, however their bytes are cut."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.body_stream import Splice
from gateway.errors import GatewayError
from gateway.multipart import MODEL_LIMIT, ModelScanner, is_multipart
from tests.gateway.plain_app import BOUNDARY, make_form

pytestmark = pytest.mark.any_database

TYPE = b"multipart/form-data; boundary=" + BOUNDARY
# Values made of what a boundary is made of are the ones that a parser may take for one.
tricky = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b"--", BOUNDARY, BOUNDARY[:5], b"\r\n--" + BOUNDARY[:-1], b"x", b"\x00\xff"]
    ),
    max_size=6,
).map(b"".join)
values = (st.binary(max_size=40) | tricky).filter(lambda value: b"--" + BOUNDARY not in b"\r\n" + value)
models = st.text(min_size=1, max_size=20).map(str.encode).filter(lambda value: b"--" + BOUNDARY not in b"\r\n" + value)
names = st.sampled_from(["file", 'file"; filename="a.wav', "language", 'model"; filename="m', "models", "xmodel"])


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A form with one field `model`, and that field's value."""
    parts = draw(st.lists(st.tuples(names, values), max_size=4))
    model = draw(models)
    parts.insert(draw(st.integers(0, len(parts))), ("model", model))
    preamble = draw(st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]))
    return preamble + make_form(*parts) + draw(st.sampled_from([b"", b"epilogue\r\n"])), model


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 5000), max_size=30)


def scan(pieces: list[bytes]) -> ModelScanner:
    scanner = ModelScanner(TYPE)
    for piece in pieces:
        scanner.feed(piece)
    return scanner


def read_fields(form: bytes) -> list[tuple[bytes, bytes | None, bytes]]:
    """Name, file name and value of every part, as python-multipart tells them of the whole form."""
    found: list[tuple[bytes, bytes | None, bytes]] = []
    part: dict[str, bytes] = {}

    def begin() -> None:
        part.update(header=b"", value=b"")

    def end() -> None:
        parameters = parse_options_header(part["header"])[1]
        found.append((parameters[b"name"], parameters.get(b"filename"), part["value"]))

    def add(key: str) -> Any:
        return lambda data, start, stop: part.update({key: part[key] + data[start:stop]})

    parser = MultipartParser(
        BOUNDARY,
        {"on_part_begin": begin, "on_part_end": end, "on_part_data": add("value"), "on_header_value": add("header")},
    )
    parser.write(form)
    return found


@given(forms(), cuts)
def test_any_cut_gives_what_the_whole_form_gives(form_and_model: tuple[bytes, bytes], places: list[int]) -> None:
    form, model = form_and_model
    assert [value for name, file_name, value in read_fields(form) if name == b"model" and file_name is None] == [model]
    scanner = scan(cut(form, places))
    scanner.finish()
    assert scanner.model == model.decode()
    assert form[scanner.value_start : scanner.value_end] == model


@given(forms())
def test_a_byte_at_a_time_gives_the_same(form_and_model: tuple[bytes, bytes]) -> None:
    form, model = form_and_model
    scanner = scan([form[place : place + 1] for place in range(len(form))])
    assert scanner.model == model.decode()
    assert form[scanner.value_start : scanner.value_end] == model


@given(forms(), cuts, st.text(min_size=1, max_size=30).map(str.encode))
def test_replacing_changes_the_value_and_no_other_byte(
    form_and_model: tuple[bytes, bytes], places: list[int], wanted: bytes
) -> None:
    form, model = form_and_model
    scanner = scan([form])
    splice = Splice(scanner.value_start, scanner.value_end, wanted)
    replaced = b"".join(splice.edit(piece) for piece in cut(form, places))
    assert replaced == form[: scanner.value_start] + wanted + form[scanner.value_start + len(model) :]
    assert len(replaced) == len(form) + splice.growth


@given(st.binary(max_size=200) | tricky, cuts)
def test_no_bytes_raise_anything_but_a_refusal(data: bytes, places: list[int]) -> None:
    for pieces in ([data], cut(b"--" + BOUNDARY + b"\r\n" + data, places)):
        scanner = ModelScanner(TYPE)
        try:
            for piece in pieces:
                scanner.feed(piece)
            scanner.finish()
        except GatewayError as error:
            assert error.status == 400  # noqa: PT017  either outcome is right


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (b"hello", "Invalid multipart form"),
        (make_form(("file", b"x"))[:-4], "ends before its closing boundary"),
        (b"", "ends before its closing boundary"),
        (make_form(("model", b"a"), ("model", b"a")), "field model twice"),
        (make_form(("model", b"a"), ("file", b""), ("model", b"b")), "field model twice"),
        (make_form(("model", b"m" * (MODEL_LIMIT + 1))), "longer than 1024 bytes"),
        (make_form(("model", b"\xff")), "not valid UTF-8"),
        (make_form(('f"; x="' + "y" * 5000, b"")), "Invalid multipart form"),
        (make_form(*[("f", b"")] * 1001), "more than 1000 parts"),
        (b"--" + BOUNDARY + b"\r\n" + b"A: b\r\n" * 17 + b"\r\n", "Invalid multipart form"),
    ],
    ids=range(10),
)
def test_a_form_that_is_none_or_goes_too_far_is_refused(form: bytes, message: str) -> None:
    for pieces in ([form], [form[place : place + 1] for place in range(len(form))]):
        with pytest.raises(GatewayError, match=message) as refusal:
            scan(pieces).finish()
        assert refusal.value.status == 400


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=" + b"b" * 71, b""])
def test_a_boundary_is_required(content_type: bytes) -> None:
    with pytest.raises(GatewayError, match="names no boundary"):
        ModelScanner(content_type)


def test_a_form_without_the_field_has_no_model() -> None:
    scanner = scan([make_form(("file", b'name="model"'), ('model"; filename="m', b"x"), ("models", b"y"))])
    scanner.finish()
    assert scanner.model is None
    assert scan([make_form(("model", b""))]).model == ""


def test_content_types_are_told_apart() -> None:
    assert is_multipart(b"Multipart/Form-Data; boundary=x")
    assert not is_multipart(b"multipart/mixed; boundary=x")
    assert not is_multipart(None)
