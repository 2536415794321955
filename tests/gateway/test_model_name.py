from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.model_name import MEMBER_LIMIT, find_model, replace_model

pytestmark = pytest.mark.any_database

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("model"), inner, max_size=4),
    max_leaves=12,
)
# Pairs, not a dictionary: a name may come twice.
members = st.lists(st.tuples(texts | st.just("model"), values), max_size=6)
spaces = st.sampled_from(["", " ", "\n", "\t ", " \r\n "])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects in every spelling: with space anywhere, escaped or not, with repeated names, with a last `model`."""
    is_ascii = draw(st.booleans())
    indent = draw(st.sampled_from([None, 0, 3]))
    pairs = [*draw(members), ("model", draw(st.text(min_size=1, max_size=20)))]
    written = [
        f"{json.dumps(name, ensure_ascii=is_ascii)}{draw(spaces)}:{draw(spaces)}"
        f"{json.dumps(value, ensure_ascii=is_ascii, indent=indent)}{draw(spaces)}"
        for name, value in pairs
    ]
    return f"{draw(spaces)}{{{draw(spaces)}{(',' + draw(spaces)).join(written)}}}{draw(spaces)}".encode()


@given(bodies())
def test_the_model_is_the_one_that_json_finds(body: bytes) -> None:
    assert find_model(body) == json.loads(body)["model"]


@given(bodies(), st.text(min_size=1, max_size=30))
def test_replacing_changes_every_top_level_model_and_nothing_else(body: bytes, model: str) -> None:
    replaced = json.loads(replace_model(body, model), object_pairs_hook=list)
    expected = [(name, model if name == "model" else value) for name, value in json.loads(body, object_pairs_hook=list)]
    assert replaced == expected


@given(bodies())
def test_replacing_a_model_and_putting_it_back_gives_the_same_bytes(body: bytes) -> None:
    once = replace_model(body, "a")
    assert replace_model(replace_model(once, 'a rather longer name / with "quotes"'), "a") == once


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    try:
        assert find_model(body)
    except GatewayError as error:
        status = error.status
    else:
        status = 200
        assert json.loads(replace_model(body, "x").decode(errors="replace"))["model"] == "x"
    assert status in (200, 400)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m","seed":12345678901234567890}', b'{"model":"NEW","seed":12345678901234567890}'),
        (b'{"z":1.0,"model":"m","a":1e5,"b":-0}', b'{"z":1.0,"model":"NEW","a":1e5,"b":-0}'),
        (
            b'{"a":{"model":"x"},"model":"m","b":[{"model":"y"}]}',
            b'{"a":{"model":"x"},"model":"NEW","b":[{"model":"y"}]}',
        ),
        (b'{"a":"\\"model\\":\\"x\\"","model":"m"}', b'{"a":"\\"model\\":\\"x\\"","model":"NEW"}'),
        (b'{"a":"back\\\\","model":"m"}', b'{"a":"back\\\\","model":"NEW"}'),
        (b'{"model":"a","x":1,"model":"m"}', b'{"model":"NEW","x":1,"model":"NEW"}'),
        (b'{"mod\\u0065l":"m"}', b'{"mod\\u0065l":"NEW"}'),
        (b' { "model" : "m" } \n', b' { "model" : "NEW" } \n'),
        (b'{"<&>":"\xc3\xa4","model":"m"}', b'{"<&>":"\xc3\xa4","model":"NEW"}'),
        (b'{"x":"caf\\u00e9 \\ud83d\\ude00","model":"m"}', b'{"x":"caf\\u00e9 \\ud83d\\ude00","model":"NEW"}'),
    ],
)
def test_only_the_value_of_model_changes(body: bytes, expected: bytes) -> None:
    """llamactl 11.2-28: large integers lost their last digits."""
    assert find_model(body) == "m"
    assert replace_model(body, "NEW") == expected


def test_a_new_name_is_written_as_json() -> None:
    assert json.loads(replace_model(b'{"model":"m"}', 'a "b" \\ ä\n')) == {"model": 'a "b" \\ ä\n'}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid request body"),
        (b"{", "Invalid request body"),
        (b"[]", "Invalid request body"),
        (b'"model"', "Invalid request body"),
        (b"null", "Invalid request body"),
        (b'{"model":"m"} x', "Invalid request body"),
        (b'{"model":"m",}', "Invalid request body"),
        (b'--boundary\r\nContent-Disposition: form-data; name="model"\r\n\r\nm', "Invalid request body"),
        (b"[" * 100_000, "Invalid request body"),
        (b'{"a":' + b"[" * 100_000, "Invalid request body"),
        (b"{}", "Model name is required"),
        (b'{"model":""}', "Model name is required"),
        (b'{"model":null}', "Model name is required"),
        (b'{"model":7}', "Model name is required"),
        (b'{"model":["m"]}', "Model name is required"),
        (b'{"model":"m","model":7}', "Model name is required"),
    ],
)
def test_a_body_without_a_usable_model_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(GatewayError, match=message) as refusal:
        find_model(body)
    assert refusal.value.status == 400
    assert refusal.value.code == "invalid_request"


def test_a_large_body_is_rewritten_quickly_however_many_brackets_it_has() -> None:
    nested: list[Any] = [[] for _ in range(2_000_000)]
    body = json.dumps({"a": nested, "a b": nested, "model": "m"}).encode()
    start = time.process_time()
    assert replace_model(body, "n").endswith(b'"model": "n"}')
    assert time.process_time() - start < 2


def test_a_hostile_body_of_many_members_costs_next_to_nothing_or_is_refused() -> None:
    """A Python object for each member of a large body held up every other request of the process for seconds."""
    plain = b'{"model":"m",' + b'"k":1,' * 100_000 + b'"z":1}'
    assert replace_model(plain, "new") == plain.replace(b'"m"', b'"new"', 1)
    for trick in (b'"model":"n",', b'"mod\\u0065l":"n",'):
        body = b'{"model":"m",' + trick + b'"k":1,' * MEMBER_LIMIT + b'"z":1}'
        assert find_model(body) == "n"
        with pytest.raises(GatewayError) as caught:
            replace_model(body, "new")
        assert (caught.value.status, "members" in caught.value.message) == (400, True)
