"""Bodies that are held in memory: their limits, and fields that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi import Headers, Message
from gateway.body import MemoryBudget, read_body, refuse_fields
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.urlencoded import find_form_model, is_urlencoded, replace_form_model

pytestmark = pytest.mark.any_database

NAMES = ("adapters", "draft_model")


def make_exchange(pieces: list[bytes], *, headers: Headers | None = None, leaves: bool = False) -> Exchange:
    """An exchange whose body comes in these pieces; `leaves` ends it with the client's departure."""
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if leaves:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    messages.reverse()

    async def receive() -> Message:
        return messages.pop()

    async def send(message: Message) -> None:
        raise AssertionError(message)

    return Exchange({"method": "POST", "path": "/", "headers": headers or []}, receive, send)


async def test_a_body_in_one_piece_is_not_counted() -> None:
    budget = MemoryBudget(10)
    exchange = make_exchange([b"x" * 100])
    assert await read_body(exchange, 1000, budget) == b"x" * 100
    assert budget.held_bytes == 0


async def test_a_body_in_several_pieces_counts_until_it_is_released() -> None:
    budget = MemoryBudget(300)
    exchange = make_exchange([b"x" * 100, b"", b"y" * 100])
    assert await read_body(exchange, 1000, budget) == b"x" * 100 + b"y" * 100
    assert budget.held_bytes == 200
    exchange.release_body()
    exchange.release_body()
    assert budget.held_bytes == 0


async def test_a_body_beyond_the_budget_is_refused_and_takes_nothing_with_it() -> None:
    budget = MemoryBudget(300)
    first, second = make_exchange([b"x" * 100] * 2), make_exchange([b"x" * 100] * 2)
    await read_body(first, 1000, budget)
    with pytest.raises(GatewayError, match="hold 300 of 300 bytes") as refusal:
        await read_body(second, 1000, budget)
    assert (refusal.value.status, refusal.value.code) == (503, "body_memory_full")
    assert refusal.value.retry_after_s
    second.release_body()
    assert budget.held_bytes == 200
    assert await read_body(make_exchange([b"x" * 50] * 2), 1000, budget)


async def test_a_client_that_leaves_while_its_body_comes_gives_its_share_back() -> None:
    budget = MemoryBudget(300)
    exchange = make_exchange([b"x" * 100], leaves=True)
    with pytest.raises(ClientGone):
        await read_body(exchange, 1000, budget)
    exchange.release_body()
    assert budget.held_bytes == 0


async def test_a_body_is_refused_by_its_announced_length_before_it_is_read() -> None:
    exchange = make_exchange([b"x"], headers=[(b"content-length", b"1001")])
    with pytest.raises(GatewayError, match="larger than 1000 bytes") as refusal:
        await read_body(exchange, 1000)
    assert refusal.value.status == 413
    assert (await exchange.receive())["type"] == "http.request", "nothing was taken"


async def test_a_body_without_a_length_is_refused_when_it_gets_too_large() -> None:
    with pytest.raises(GatewayError, match="larger than 1000 bytes"):
        await read_body(make_exchange([b"x" * 500] * 3), 1000)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "adapters": "someone/else"},
        {"model": "m", "draft_model": {"any": 1}},
        {"draft_model": "", "model": "m"},
    ],
)
def test_a_field_that_would_load_something_else_is_refused_by_name(body: dict[str, Any]) -> None:
    name = next(name for name in body if name != "model")
    with pytest.raises(GatewayError, match=f"The field {name} is not accepted") as refusal:
        refuse_fields(json.dumps(body).encode(), NAMES)
    assert (refusal.value.status, refusal.value.param) == (400, name)


def test_a_field_written_with_escapes_is_refused_too() -> None:
    with pytest.raises(GatewayError, match="adapters"):
        refuse_fields(b'{"model":"m","\\u0061dapter\\u0073":"x"}', NAMES)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"adapters":"x","content":"adapters draft_model \\u0061"}]}',
        b'{"model":"m","adapters":null}',
        b'{"model":"m","adapters":"x","adapters":null}',
        b'{"model":"m","Adapters":"x"}',
    ],
)
def test_other_places_of_the_word_are_accepted(body: bytes) -> None:
    refuse_fields(body, NAMES)


@given(
    st.dictionaries(st.sampled_from(["model", "adapters", "draft_model", "x", "ä"]), st.none() | st.text(max_size=3))
)
def test_exactly_the_fields_that_python_finds_are_refused(body: dict[str, str | None]) -> None:
    is_refused = False
    try:
        refuse_fields(json.dumps(body).encode(), NAMES)
    except GatewayError:
        is_refused = True
    assert is_refused == any(body.get(name) is not None for name in NAMES)


@pytest.mark.parametrize(
    ("form", "model"),
    [
        (b"model=m", "m"),
        (b"a=1&model=a%2Fb+c&b=2", "a/b c"),
        (b"mod%65l=m", "m"),
        (b"model=", ""),
        (b"model=%C3%A4", "ä"),
        (b"models=m&xmodel=m&a=model=m", None),
        (b"model", None),
        (b"", None),
        (b"&&&", None),
    ],
)
def test_the_model_of_a_form_in_the_query_s_shape_is_found(form: bytes, model: str | None) -> None:
    assert find_form_model(form) == model


def test_a_form_that_names_two_models_is_refused() -> None:
    with pytest.raises(GatewayError, match="field model twice"):
        find_form_model(b"model=a&x=1&mod%65l=b")


def test_replacing_the_model_of_a_form_changes_nothing_else() -> None:
    assert replace_form_model(b"a=%20+&model=x&b=&&", "a b/c&") == b"a=%20+&model=a+b%2Fc%26&b=&&"
    assert replace_form_model(b"a=1", "x") == b"a=1"


@given(st.lists(st.tuples(st.text(max_size=5).filter(lambda name: name != "model"), st.text(max_size=5))), st.text())
def test_what_is_put_in_is_found(fields: list[tuple[str, str]], model: str) -> None:
    from urllib.parse import urlencode

    model = model.encode(errors="ignore").decode()
    form = urlencode([*((a, b) for a, b in fields if (a + b).isascii()), ("model", "old")]).encode()
    assert find_form_model(replace_form_model(form, model)) == model


def test_content_types_of_forms_are_told() -> None:
    assert is_urlencoded(b"Application/X-WWW-Form-Urlencoded; charset=utf-8")
    assert not is_urlencoded(b"application/json")
    assert not is_urlencoded(None)
