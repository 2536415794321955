"""The clients: each sends one request after the other, of a kind and to a model drawn by lot."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import httpx

from benchmarks.soak.tally import BrokenOff, Refused, Tally, WrongAnswer, check_refusal, require

#: Seconds within which every request must have an answer, a refusal included; then it hangs, which is wrong.
PATIENCE_S = 60.0
CHAT = "/v1/chat/completions"
numbers = count(1)


class Client:
    """One client with its own connection, key and dice."""

    def __init__(self, address: str, key: str, models: list[str], tally: Tally, seed: int) -> None:
        self.models = models
        self.tally = tally
        self.dice = random.Random(seed)  # noqa: S311  a repeatable mix
        self.http = httpx.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S, trust_env=False
        )

    async def run(self, until: float, kinds: dict[str, int]) -> None:
        """Send requests until the loop's time has come."""
        loop = asyncio.get_running_loop()
        names = list(kinds)
        async with self.http:
            while loop.time() < until:
                kind = self.dice.choices(names, list(kinds.values()))[0]
                await self.attempt(kind, KINDS[kind])
                await asyncio.sleep(self.dice.uniform(0, 0.05))

    async def attempt(self, kind: str, ask: Callable[[Client], Awaitable[str]]) -> None:
        """Send one request and count what came of it."""
        try:
            self.tally.add(kind, await ask(self))
        except Refused as refusal:
            self.tally.add(kind, f"refused: {refusal}")
        except BrokenOff:
            self.tally.add(kind, "stream broken off")
        except WrongAnswer as wrong:
            self.tally.add_wrong(kind, str(wrong))
        except httpx.TransportError as error:
            self.tally.add_wrong(kind, f"no answer: {type(error).__name__}: {error}")

    def message(self, **fields: Any) -> dict[str, Any]:
        """A request's body, with an id that no other request has."""
        return {
            "model": self.dice.choice(self.models),
            "id": f"request-{next(numbers)}",
            "messages": [{"role": "user", "content": "hello"}],
            **fields,
        }

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request; the answer must be a JSON object or a clean refusal."""
        answer = await self.http.post(path, json=body)
        return read_object(answer)

    @asynccontextmanager
    async def stream(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        """Begin a stream; yields its numbered pieces, checked, and then ``[DONE]``."""
        async with self.http.stream("POST", CHAT, json={**body, "stream": True}) as answer:
            if answer.status_code != 200:
                check_refusal(answer.status_code, answer.headers, await answer.aread())
            yield read_pieces(answer, body)


def read_object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of a 200; raises Refused and WrongAnswer."""
    if answer.status_code != 200:
        check_refusal(answer.status_code, answer.headers, answer.content)
    try:
        content = answer.json()
    except ValueError as error:
        raise WrongAnswer(f"200 without JSON: {answer.content[:300]!r}") from error
    require(isinstance(content, dict), f"200 without an object: {answer.content[:300]!r}")
    return dict(content)


async def read_pieces(answer: httpx.Response, body: dict[str, Any]) -> AsyncIterator[str]:
    """The pieces of a stream; each must be this request's next one, and the last be followed by ``[DONE]``."""
    expected, is_done = 0, False
    try:
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            require(not is_done, f"{body['id']}: more after the end: {line[:200]}")
            if is_done := line == "data: [DONE]":
                yield "[DONE]"
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise BrokenOff
            if not event.get("choices"):
                continue  # the usage, which Corral asks engines for
            content = event["choices"][0]["delta"]["content"]
            wanted = f"{body['id']}/{expected}/" + "x" * body.get("pad", 0)
            require(content == wanted, f"{body['id']}: {content[:80]} came instead of piece {expected}")
            expected += 1
            yield content
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise BrokenOff from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WrongAnswer(f"{body['id']}: an event that is none: {error}") from error
    require(is_done, f"{body['id']}: the stream ended properly after {expected} of {body['chunks']} pieces")
    require(expected == body["chunks"], f"{body['id']}: {expected} pieces instead of {body['chunks']}")


async def ask_plain(client: Client) -> str:
    """A chat."""
    body = client.message(delay_s=client.dice.choice([0, 0, 0.05, 0.5]))
    content = await client.post(CHAT, body)
    text = content["choices"][0]["message"]["content"]
    require(text == body["id"], f"{text} came instead of {body['id']}")
    return "answered"


async def ask_stream(client: Client) -> str:
    """A streamed chat."""
    body = client.message(chunks=client.dice.choice([5, 20, 60]), interval_s=client.dice.choice([0, 0.01, 0.03]))
    async with client.stream(body) as pieces:
        async for _ in pieces:
            pass
    return "answered"


async def ask_slowly(client: Client) -> str:
    """A stream larger than all buffers, read slower than it is sent."""
    body = client.message(chunks=60, pad=65536)
    async with client.stream(body) as pieces:
        async for _ in pieces:
            await asyncio.sleep(0.03)
    return "answered"


async def ask_and_leave(client: Client) -> str:
    """A request that is abandoned before its answer, or within."""
    if client.dice.random() < 0.5:
        try:
            async with asyncio.timeout(client.dice.uniform(0.005, 0.3)):
                await client.post(CHAT, client.message(delay_s=2))
        except TimeoutError:
            return "left"
        return "answered"
    async with client.stream(client.message(chunks=200, interval_s=0.01)) as pieces:
        for _ in range(client.dice.randint(1, 10)):
            await anext(pieces)
    return "left"


async def ask_embeddings(client: Client) -> str:
    """Another path."""
    body = client.message(input="a few words")
    content = await client.post("/v1/embeddings", body)
    require(content["id"] == body["id"], f"{content['id']} came instead of {body['id']}")
    return "answered"


async def ask_upload(client: Client) -> str:
    """A large body, whose digest comes back."""
    text = client.dice.randbytes(client.dice.randint(50_000, 1_500_000)).hex()
    content = await client.post("/v1/embeddings", client.message(input=text))
    require(content["sha256"] == hashlib.sha256(text.encode()).hexdigest(), "another body arrived than was sent")
    return "answered"


async def ask_multipart(client: Client) -> str:
    """An upload of a form, as for a transcription."""
    mark = client.dice.randbytes(8).hex()
    model, audio = client.dice.choice(client.models), client.dice.randbytes(client.dice.randint(1000, 500_000))
    head = f'--{mark}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--{mark}\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    body = head.encode() + audio + f"\r\n--{mark}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    content = read_object(await client.http.post("/v1/audio/transcriptions", content=body, headers=headers))
    require(content["text"] == hashlib.sha256(body).hexdigest(), "another form arrived than was sent")
    return "answered"


async def ask_models(client: Client) -> str:
    """The list of models."""
    content = read_object(await client.http.get("/v1/models"))
    listed = {entry["id"] for entry in content["data"]}
    require(listed >= set(client.models), f"the list holds {sorted(listed)} only")
    return "answered"


KINDS: dict[str, Callable[[Client], Awaitable[str]]] = {
    "chat": ask_plain,
    "stream": ask_stream,
    "slow reader": ask_slowly,
    "leaving": ask_and_leave,
    "embeddings": ask_embeddings,
    "upload": ask_upload,
    "multipart": ask_multipart,
    "models": ask_models,
}
#: How often each kind is drawn.
MIX = {"chat": 35, "stream": 25, "slow reader": 3, "leaving": 8, "embeddings": 10, "upload": 4, "multipart": 4} | {
    "models": 11
}
