"""Forms on their way to an engine: held while they must be, streamed as soon as they can be."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.gateway.harness import Call, RawClient, Upstream, wait_until
from tests.gateway.plain_app import BOUNDARY, FILE, FORM_TYPE, PlainApp, make_form
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

MEBIBYTE = 1024 * 1024
PATH = "/v1/audio/transcriptions"


@pytest.fixture
async def app(upstream: Upstream) -> AsyncIterator[PlainApp]:
    async with PlainApp(upstream) as running:
        yield running


async def answer_with_digest(call: Call) -> None:
    """Answer with the length and the SHA-256 of the body."""
    digest = hashlib.sha256()
    async for piece in call.read_pieces():
        digest.update(piece)
    await call.answer(f"{call.received} {digest.hexdigest()}".encode())


def split_form(size: int, *, is_model_last: bool, model: bytes = b"m") -> tuple[bytes, int, bytes]:
    """A form with a file of `size` bytes in three parts: what precedes the file's bytes, their number, the rest."""
    fields = [("model", model)]
    form = make_form((FILE, b"FILE"), *fields) if is_model_last else make_form(*fields, (FILE, b"FILE"))
    before, after = form.split(b"FILE")
    return before, size, after


def pieces_of(form: tuple[bytes, int, bytes]) -> Iterator[bytes]:
    before, size, after = form
    yield before
    block = bytes(range(256)) * 4096
    for start in range(0, size, len(block)):
        yield block[: size - start]
    yield after


def describe(form: tuple[bytes, int, bytes]) -> str:
    digest = hashlib.sha256()
    length = 0
    for piece in pieces_of(form):
        digest.update(piece)
        length += len(piece)
    return f"{length} {digest.hexdigest()}"


async def send_form(client: RawClient, form: tuple[bytes, int, bytes], *headers: str) -> None:
    """Send a form as fast as it is taken."""
    length = len(form[0]) + form[1] + len(form[2])
    client.send("POST", PATH, FORM_TYPE, f"Content-Length: {length}", *headers)
    for piece in pieces_of(form):
        client.writer.write(piece)
        await client.writer.drain()


async def read_answer(client: RawClient) -> tuple[int, str]:
    head = await client.read_head()
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), (await client.reader.readexactly(length)).decode()


@contextlib.asynccontextmanager
async def watch_memory() -> AsyncIterator[list[int]]:
    """A list that ends up with one number: by how many bytes this process grew at most meanwhile."""
    process = psutil.Process()
    start = process.memory_info().rss
    growth = [0]

    async def sample() -> None:
        while True:
            growth[0] = max(growth[0], process.memory_info().rss - start)
            await asyncio.sleep(0.01)

    sampling = asyncio.create_task(sample())
    try:
        yield growth
    finally:
        sampling.cancel()


def count_open_files(folder: Path) -> int:
    """How many files of the folder this process has open, deleted ones too."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(link.readlink()).startswith(f"{folder}/")
    return count


@pytest.mark.parametrize("is_model_last", [False, True], ids=["model-first", "model-last"])
async def test_200_megabytes_pass_with_flat_memory(app: PlainApp, upstream: Upstream, is_model_last: bool) -> None:
    upstream.handler = answer_with_digest
    app.asked_model = "/models/a rather long name.gguf"
    form = split_form(200_000_000, is_model_last=is_model_last)
    async with RawClient(app.port) as client, watch_memory() as growth:
        await send_form(client, form)
        answer = await read_answer(client)
    wanted = split_form(200_000_000, is_model_last=is_model_last, model=app.asked_model.encode())
    assert answer == (200, describe(wanted))
    assert app.exchanges[0].model == "m"
    assert growth[0] < 48 * MEBIBYTE


async def test_a_form_that_names_its_model_first_reaches_the_engine_before_it_is_complete(
    app: PlainApp, upstream: Upstream
) -> None:
    first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def note_first(call: Call) -> None:
        first.set_result(await call.reader.read(65536))
        async for _ in call.read_pieces():
            pass

    upstream.handler = note_first
    form = make_form(("model", b"m"), (FILE, b"x" * 100_000))
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, f"Content-Length: {len(form)}")
        client.writer.write(form[:1000])
        assert form.startswith(await first)
    assert upstream.calls[0].headers["content-length"] == str(len(form))


@pytest.mark.parametrize("size", [10, 500_000])
async def test_a_short_form_is_sent_like_any_body_over_connections_that_are_kept(
    app: PlainApp, upstream: Upstream, size: int
) -> None:
    upstream.handler = answer_with_digest
    form = split_form(size, is_model_last=True)
    for _ in range(3):
        async with RawClient(app.port) as client:
            await send_form(client, form)
            assert await read_answer(client) == (200, describe(form))
    assert upstream.connection_count == 1


async def test_a_form_in_chunks_stays_in_chunks(app: PlainApp, upstream: Upstream) -> None:
    upstream.handler = answer_with_digest
    app.asked_model = "another"
    form = make_form((FILE, b"x" * 3_000_000), ("model", b"m"))
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, "Transfer-Encoding: chunked")
        for start in range(0, len(form), 50_000):
            piece = form[start : start + 50_000]
            client.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await client.writer.drain()
        client.writer.write(b"0\r\n\r\n")
        status, text = await read_answer(client)
    wanted = make_form((FILE, b"x" * 3_000_000), ("model", b"another"))
    assert (status, text) == (200, f"{len(wanted)} {hashlib.sha256(wanted).hexdigest()}")
    assert upstream.calls[0].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("is_model_last", [False, True], ids=["model-first", "model-last"])
@pytest.mark.parametrize("size", [100_000, 3_000_000, 30_000_000])
async def test_nothing_is_lost_of_a_form_that_waits_for_its_instance(
    app: PlainApp, upstream: Upstream, size: int, is_model_last: bool
) -> None:
    upstream.handler = answer_with_digest
    app.is_ready.clear()
    form = split_form(size, is_model_last=is_model_last)
    async with RawClient(app.port) as client:
        sending = asyncio.create_task(send_form(client, form))
        await asyncio.sleep(0.05)
        app.is_ready.set()
        await sending
        assert await read_answer(client) == (200, describe(form))


@pytest.mark.parametrize("size", [100_000, 30_000_000])
async def test_a_form_is_read_while_its_instance_starts(app: PlainApp, upstream: Upstream, size: int) -> None:
    upstream.handler = answer_with_digest
    app.is_ready.clear()
    form = split_form(size, is_model_last=False)
    async with RawClient(app.port) as client:
        await send_form(client, form)
        await asyncio.sleep(0.2)
        assert not upstream.calls
        app.is_ready.set()
        assert await read_answer(client) == (200, describe(form))


@pytest.mark.parametrize("size", [1000, 10_000_000])
async def test_a_client_that_leaves_during_the_wait_is_noticed(app: PlainApp, upstream: Upstream, size: int) -> None:
    app.is_ready.clear()
    async with RawClient(app.port) as client:
        form = split_form(size, is_model_last=False)
        client.send("POST", PATH, FORM_TYPE, f"Content-Length: {2 * size}")
        for piece in pieces_of(form):
            client.writer.write(piece)
            await client.writer.drain()
        await wait_until(lambda: app.uploads)
    await wait_until(lambda: app.exchanges[0].outcome == "cancelled")
    assert not upstream.calls


async def test_a_client_that_leaves_while_a_busy_engine_takes_no_upload_closes_the_upstream(
    app: PlainApp, upstream: Upstream
) -> None:
    closed = asyncio.Event()
    may_read = asyncio.Event()

    async def stall(call: Call) -> None:
        call.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await may_read.wait()
        call.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await call.wait_closed()
        closed.set()

    upstream.handler = stall
    async with RawClient(app.port) as client:
        sending = asyncio.create_task(send_form(client, split_form(60_000_000, is_model_last=False)))
        await sending
        await asyncio.sleep(0.2)
        assert app.activity.in_flight == {1: 1}
    since_left = Stopwatch()
    await wait_until(lambda: app.activity.in_flight == {})
    assert since_left.worked_s < 0.1
    await wait_until(lambda: app.exchanges[0].outcome == "cancelled")  # a task that watched it ends first
    may_read.set()
    await closed.wait()


async def test_a_client_that_leaves_while_a_held_form_is_sent_on_closes_the_upstream(
    app: PlainApp, upstream: Upstream
) -> None:
    async def sip(call: Call) -> None:
        async for _ in call.read_pieces():
            await asyncio.sleep(0.02)

    upstream.handler = sip
    async with RawClient(app.port) as client:
        await send_form(client, split_form(40_000_000, is_model_last=True))
        await wait_until(lambda: upstream.calls)
        await asyncio.sleep(0.1)
    since_left = Stopwatch()
    await wait_until(lambda: app.activity.in_flight == {})
    assert since_left.worked_s < 0.1
    await wait_until(lambda: app.exchanges[0].outcome == "cancelled")  # a task that watched it ends first
    await upstream.drop_connections()


async def test_an_announced_length_beyond_the_limit_is_refused_before_anything_is_read(
    app: PlainApp, upstream: Upstream
) -> None:
    app.max_upload_bytes = 1_000_000
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, "Content-Length: 1000001", "Expect: 100-continue")
        status, text = await read_answer(client)
    assert status == 413
    assert "larger than 1000000 bytes" in text


@pytest.mark.parametrize("is_model_last", [False, True], ids=["model-first", "model-last"])
async def test_a_form_that_turns_out_too_large_is_refused(
    app: PlainApp, upstream: Upstream, is_model_last: bool
) -> None:
    app.max_upload_bytes = 1_000_000
    upstream.handler = answer_with_digest
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, "Transfer-Encoding: chunked")
        for piece in pieces_of(split_form(1_000_000, is_model_last=is_model_last)):
            client.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.writer.write(b"0\r\n\r\n")
        status, text = await read_answer(client)
    assert status == 413
    assert "larger than 1000000 bytes" in text
    assert app.activity.in_flight == {}


async def test_a_second_model_far_behind_the_first_is_refused(app: PlainApp, upstream: Upstream) -> None:
    upstream.handler = answer_with_digest
    form = make_form(("model", b"m"), (FILE, b"x" * 3_000_000), ("model", b"other"))
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, f"Content-Length: {len(form)}")
        client.writer.write(form)
        status, text = await read_answer(client)
    assert status == 400
    assert "the field model twice" in text


async def test_a_form_that_can_not_be_stored_is_refused_with_the_reason(
    app: PlainApp, upstream: Upstream, tmp_path: Path
) -> None:
    app.spool_folder = str(tmp_path / "missing")
    async with RawClient(app.port) as client:
        sending = asyncio.create_task(send_form(client, split_form(3_000_000, is_model_last=True)))
        status, text = await read_answer(client)
        with contextlib.suppress(ConnectionError):
            await sending
    assert status == 503
    assert "upload_storage_failed" in text
    assert "No such file or directory" in text


async def test_the_temporary_file_goes_with_the_request(app: PlainApp, upstream: Upstream, tmp_path: Path) -> None:
    app.spool_folder = str(tmp_path)
    app.is_ready.clear()
    upstream.handler = answer_with_digest
    form = split_form(5_000_000, is_model_last=True)
    async with RawClient(app.port) as client:
        await send_form(client, form)
        await wait_until(lambda: count_open_files(tmp_path))
        app.is_ready.set()
        assert await read_answer(client) == (200, describe(form))
        await wait_until(lambda: not count_open_files(tmp_path))
    assert not os.listdir(tmp_path)  # noqa: PTH208  pathlib may not be asked in a coroutine


@pytest.mark.parametrize("is_form", [True, False], ids=["form", "stream"])
async def test_an_engine_that_refuses_an_upload_and_closes_is_heard(
    app: PlainApp, upstream: Upstream, is_form: bool
) -> None:
    async def refuse(call: Call) -> None:
        # What it leaves unread makes the kernel reset the connection right behind the answer.
        await call.answer(b"no such key", status="401 Unauthorized")
        call.writer.close()

    upstream.handler = refuse
    for _ in range(10):
        async with RawClient(app.port) as client:
            content_type = FORM_TYPE if is_form else "Content-Type: audio/wav"
            form = split_form(20_000_000, is_model_last=False)
            client.send("POST", PATH, content_type, f"Content-Length: {sum(map(len, pieces_of(form)))}")

            async def upload(to: RawClient, form: tuple[bytes, int, bytes]) -> None:
                with contextlib.suppress(ConnectionError):
                    for piece in pieces_of(form):
                        to.writer.write(piece)
                        await to.writer.drain()

            sending = asyncio.create_task(upload(client, form))
            assert await read_answer(client) == (401, "no such key")
            sending.cancel()
    assert app.activity.in_flight == {}


async def test_a_form_without_an_end_is_refused(app: PlainApp, upstream: Upstream) -> None:
    form = make_form(("language", b"en"))[:-4]
    async with RawClient(app.port) as client:
        client.send("POST", PATH, FORM_TYPE, body=form)
        status, text = await read_answer(client)
    assert status == 400
    assert "ends before its closing boundary" in text
    assert BOUNDARY.decode() not in text
