"""Which exceptions OpenAI's and Anthropic's libraries raise for what Corral refuses, and what they repeat."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import psutil
import pytest

from tests.system.sdks import QUESTION, Sdks
from tests.system.stack import poll

pytestmark = pytest.mark.engine

ENDLESS: dict[str, Any] = {"messages": QUESTION, "max_tokens": 8000, "stream": True}
Ask = Callable[..., Any]


@pytest.fixture
def make(sdks: Sdks) -> Iterator[Callable[..., str]]:
    """Makes an instance of the fake engine with these flags; it is removed afterwards."""
    names: list[str] = []

    def create(name: str, *flags: str, **options: Any) -> str:
        sdks.create_fake(name, *flags, **options)
        names.append(name)
        return name

    yield create
    for name in names:
        sdks.stack.remove(name)


@pytest.fixture(params=["openai", "anthropic"])
def library(request: pytest.FixtureRequest) -> Any:
    """One of the libraries, whose exceptions have the same names."""
    return {"openai": openai, "anthropic": anthropic}[request.param]


@pytest.fixture
def ask(sdks: Sdks, library: Any) -> Ask:
    """Asks a model by one of the libraries, with a client that has these options."""

    def ask_model(model: str, messages: Any = QUESTION, **options: Any) -> Any:
        if library is openai:
            with sdks.openai(**options) as client:
                return client.chat.completions.create(model=model, messages=messages, max_tokens=4)
        with sdks.anthropic(**options) as client:
            return client.messages.create(model=model, messages=messages, max_tokens=4)

    return ask_model


def make_client(sdks: Sdks, library: Any) -> Any:
    return sdks.openai() if library is openai else sdks.anthropic()


def begin_stream(client: Any, model: str) -> Any:
    """A stream that goes on for seconds unless it is stopped."""
    create = client.chat.completions.create if isinstance(client, openai.OpenAI) else client.messages.create
    return create(model=model, **ENDLESS)


def read_error(refusal: pytest.ExceptionInfo[Any]) -> dict[str, Any]:
    """The object `error` of the body; OpenAI's library has taken it out already."""
    body = refusal.value.body
    return dict(body.get("error", body))


def test_an_unknown_key_is_an_authentication_error(ask: Ask, library: Any) -> None:
    with pytest.raises(library.AuthenticationError, match="Invalid API key") as refusal:
        ask("fake", api_key="corral-nobody-has-this-key")
    assert read_error(refusal)["type"] == "authentication_error"
    if library is openai:
        assert refusal.value.code == "invalid_api_key"


def test_no_key_is_an_authentication_error(sdks: Sdks, library: Any) -> None:
    omitted = dict.fromkeys(("Authorization", "X-Api-Key"), library.Omit())
    with make_client(sdks, library) as client, pytest.raises(library.AuthenticationError, match="Missing API key"):
        client.models.list(extra_headers=omitted)


def test_an_instance_that_the_key_does_not_open_is_a_permission_error(sdks: Sdks, ask: Ask, library: Any) -> None:
    with pytest.raises(library.PermissionDeniedError, match="does not have access") as refusal:
        ask("llama", api_key=sdks.narrow_key)
    assert read_error(refusal)["type"] == "permission_error"


def test_an_unknown_model_is_not_found(ask: Ask, library: Any) -> None:
    with pytest.raises(library.NotFoundError, match="nobody") as refusal:
        ask("nobody")
    kind = "invalid_request_error" if library is openai else "not_found_error"
    assert read_error(refusal)["type"] == kind
    if library is openai:
        assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


def test_a_request_without_a_model_is_a_bad_one(ask: Ask, library: Any) -> None:
    with pytest.raises(library.BadRequestError, match="Model name is required") as refusal:
        ask("")
    assert read_error(refusal)["type"] == "invalid_request_error"


def test_what_is_no_json_is_a_bad_request(sdks: Sdks, library: Any) -> None:
    headers = {"Content-Type": "application/json"}
    with make_client(sdks, library) as client:
        path = "/chat/completions" if library is openai else "/v1/messages"
        with pytest.raises(library.BadRequestError, match="Invalid request body"):
            client.post(path, content=b'{"model": "fake", "messages": [', cast_to=object, options={"headers": headers})


def test_the_engines_own_refusal_comes_through(ask: Ask, library: Any) -> None:
    long = [{"role": "user", "content": "cattle graze near old fences " * 2500}]
    with pytest.raises(library.BadRequestError, match="context"):
        ask("llama", long)


@pytest.mark.timed
def test_a_full_line_is_a_rate_limit_with_the_time_to_wait(sdks: Sdks, ask: Ask, library: Any, make: Any) -> None:
    make("loading", "--ready-after", "2", queue_limit=1)
    first = threading.Thread(target=sdks.stack.chat, args=("loading",))
    first.start()
    sdks.stack.wait_for("loading", "starting", "ready")
    with pytest.raises(library.RateLimitError, match="already wait") as refusal:
        ask("loading")
    first.join()
    assert int(refusal.value.response.headers["retry-after"]) > 0
    assert read_error(refusal)["type"] == "rate_limit_error"


@pytest.mark.timed
def test_a_library_that_repeats_gets_through_when_the_line_moves_on(sdks: Sdks, make: Any) -> None:
    make("moving", "--ready-after", "1", queue_limit=1)
    first = threading.Thread(target=sdks.stack.chat, args=("moving",))
    first.start()
    sdks.stack.wait_for("moving", "starting", "ready")
    statuses: list[int] = []
    hooks = {"response": [lambda response: statuses.append(response.status_code)]}
    with sdks.openai(max_retries=20, http_client=openai.DefaultHttpxClient(event_hooks=hooks)) as client:
        assert client.chat.completions.create(model="moving", messages=QUESTION).choices
    first.join()
    assert statuses[0] == 429
    assert statuses.index(200) == len(statuses) - 1


@pytest.mark.timed
def test_a_limit_of_requests_at_once_is_a_rate_limit_that_passes(sdks: Sdks, ask: Ask, library: Any, make: Any) -> None:
    make("narrow", "--every", "0.1", "--stream-tokens", "10", concurrency_limit=1)
    with (
        sdks.openai() as first,
        first.chat.completions.create(model="narrow", messages=QUESTION, stream=True) as stream,
    ):
        next(iter(stream))
        with pytest.raises(library.RateLimitError, match="takes 1 at once") as refusal:
            ask("narrow")
        assert refusal.value.response.headers["retry-after"] == "1"
        if library is openai:
            assert refusal.value.code == "concurrency_limit"
            assert ask("narrow", max_retries=2).choices


def test_a_dead_engine_is_a_server_error_and_the_repetition_finds_the_next_one(sdks: Sdks, make: Any) -> None:
    make("fragile")
    assert sdks.stack.chat("fragile").status_code == 200
    with (
        sdks.openai(base_url=f"{sdks.origin}/upstream/fragile") as client,
        pytest.raises(openai.InternalServerError, match="fragile gave no answer") as refusal,
    ):
        client.post("/crash", cast_to=object)
    assert (refusal.value.status_code, refusal.value.code) == (502, "bad_gateway")
    assert "x-should-retry" not in refusal.value.response.headers
    with sdks.openai(max_retries=2) as client:
        assert client.chat.completions.create(model="fragile", messages=QUESTION).choices


def test_a_failed_start_is_a_server_error_with_the_engines_words_and_is_not_repeated(
    sdks: Sdks, ask: Ask, library: Any, make: Any
) -> None:
    make("broken", "--crash-at-start", auto_restart=False)
    kind = library.InternalServerError if library is openai else anthropic.OverloadedError
    with pytest.raises(kind, match=r"no such tensor") as refusal:
        ask("broken", max_retries=2)
    assert refusal.value.status_code == (503 if library is openai else 529)
    assert read_error(refusal)["type"] == ("unavailable_error" if library is openai else "overloaded_error")
    assert sdks.stack.states("broken").count("starting") == 1


def test_a_disabled_instance_is_unavailable_and_not_asked_twice(sdks: Sdks, ask: Ask, library: Any, make: Any) -> None:
    make("switched-off", disabled=True)
    with pytest.raises(library.InternalServerError, match="is disabled") as refusal:
        ask("switched-off", max_retries=2)
    assert refusal.value.response.headers["x-should-retry"] == "false"


def test_streams_that_tell_of_loading_are_understood(sdks: Sdks, library: Any, make: Any) -> None:
    make("cold", "--ready-after", "0.5", send_loading_state=True)
    if library is openai:
        with sdks.openai() as client, client.chat.completions.stream(model="cold", messages=QUESTION) as stream:
            message: Any = stream.get_final_completion().choices[0].message
        assert message.content == "tok0 tok1 tok2 tok3 tok4 "
        assert "Loading model cold" in message.model_extra["reasoning_content"]
    else:  # the fake doesn't speak this API, of which the client is told in the stream that has begun
        with sdks.anthropic() as client, pytest.raises(anthropic.APIStatusError, match="File Not Found"):
            list(begin_stream(client, "cold"))


def test_a_start_that_fails_after_a_stream_began_is_an_error_in_the_stream(sdks: Sdks, library: Any, make: Any) -> None:
    make("doomed", "--crash-at-start", send_loading_state=True, auto_restart=False)
    with make_client(sdks, library) as client, pytest.raises(library.APIError, match="no such tensor"):
        list(begin_stream(client, "doomed"))


def test_a_stream_whose_engine_is_killed_fails_and_does_not_just_end(sdks: Sdks, library: Any, tiny_gguf: Any) -> None:
    backend = {"model": str(tiny_gguf), "threads": 1, "ctx_size": 8192, "parallel": 1}
    sdks.create("victim", "llama_cpp", backend, auto_restart=False, start=True)
    pid = sdks.stack.wait_for("victim", "ready")["pid"]
    with make_client(sdks, library) as client:
        stream = iter(begin_stream(client, "victim"))
        next(stream)
        psutil.Process(pid).kill()
        with pytest.raises((library.APIConnectionError, httpx2.RemoteProtocolError)):
            list(stream)
    sdks.stack.remove("victim")


def find_busy(sdks: Sdks) -> list[dict[str, Any]]:
    slots = sdks.stack.api.get("/upstream/llama/slots").json()
    return [slot for slot in slots if slot["is_processing"]]


def test_a_stream_that_the_client_closes_frees_the_engines_slot(sdks: Sdks, library: Any) -> None:
    with make_client(sdks, library) as client, begin_stream(client, "llama") as stream:
        next(iter(stream))
        (busy,) = find_busy(sdks)
    poll(lambda: not find_busy(sdks), what="a free slot")
    slots = {slot["id"]: slot for slot in sdks.stack.api.get("/upstream/llama/slots").json()}
    assert slots[busy["id"]]["n_prompt_tokens"] < 4000  # of prompt and answer; it was told to write 8000


async def test_async_clients_raise_the_same(sdks: Sdks) -> None:
    async with sdks.async_openai() as client, sdks.async_anthropic() as other:
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nobody", messages=QUESTION)
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.create(model="nobody", messages=QUESTION, max_tokens=4)
    async with sdks.async_openai(api_key="corral-nobody-has-this-key") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.embeddings.create(model="embedder", input="x")
