from __future__ import annotations

import asyncio
import time

import pytest

from gateway.errors import GatewayError
from gateway.keys import KeyCache, drop_query_key, hash_key, read_credential
from gateway.structs import Principal

pytestmark = pytest.mark.any_database

KNOWN = Principal(kind="inference", key_id=1, instances=None)


class Book:
    """A directory of keys that counts its readers and can be slow or broken."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {hash_key(b"known"): KNOWN}
        self.reads = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def look_up(self, digest: str) -> Principal | None:
        self.reads += 1
        found = self.principals.get(digest)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


def make_cache(
    book: Book, *, refresh_age_s: float = 5.0, max_age_s: float = 10.0, max_entries: int = 100, hears: bool = True
) -> KeyCache:
    return KeyCache(
        book.look_up,
        refresh_age_s=refresh_age_s,
        max_age_s=max_age_s,
        max_entries=max_entries,
        hears_of_changes=lambda: hears,
    )


async def wait_refused(cache: KeyCache) -> None:
    """Ask until the known key isn't valid any more."""
    async with asyncio.timeout(60):
        while await cache.find_principal(b"known") is not None:  # noqa: ASYNC110  it is told by answers only
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("headers", "query", "credential"),
    [
        ([(b"authorization", b"Bearer k")], b"", b"k"),
        ([(b"authorization", b"bearer k")], b"", b"k"),
        ([(b"authorization", b"BEARER   k ")], b"", b"k"),
        ([(b"authorization", b"Basic abc")], b"", None),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"k")], b"", b"k"),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"k")], b"", b"p"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"k")], b"", b"k"),
        ([(b"authorization", b"Bearer")], b"", None),
        ([(b"x-api-key", b"second"), (b"authorization", b"Bearer first")], b"", b"first"),
        ([(b"x-api-key", b"k")], b"api_key=other", b"k"),
        ([], b"a=1&api_key=k%2B%20x&b=2", b"k+ x"),
        ([], b"my_api_key=k", None),
        ([], b"api_key=", None),
        ([], b"", None),
    ],
)
def test_the_credential_is_the_first_that_is_there(
    headers: list[tuple[bytes, bytes]], query: bytes, credential: bytes | None
) -> None:
    assert read_credential(headers, query) == credential


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"api_key=k", b""),
        (b"a=1&api_key=k&b=%2F+x", b"a=1&b=%2F+x"),
        (b"api_key=k&api_key=l&a", b"a"),
        (b"my_api_key=k", b"my_api_key=k"),
        (b"a=api_key", b"a=api_key"),
        (b"API_KEY=k&Api_Key=k&b", b"b"),
        (b"a=%2F&api%5Fkey=k&%41%50%49_key=k&%61pi_key", b"a=%2F"),
        (b"a%zz=1&&api_keys=%6b", b"a%zz=1&&api_keys=%6b"),
    ],
)
def test_the_key_leaves_the_query_and_the_rest_stays(query: bytes, left: bytes) -> None:
    assert drop_query_key(query) == left


async def test_a_key_is_looked_up_once_whether_known_or_not() -> None:
    book = Book()
    cache = make_cache(book)
    assert [await cache.find_principal(b"known") for _ in range(3)] == [KNOWN] * 3
    assert [await cache.find_principal(b"wrong") for _ in range(3)] == [None] * 3
    assert book.reads == 2


async def test_requests_with_the_same_new_key_share_one_look_up() -> None:
    book = Book()
    book.gate.clear()
    cache = make_cache(book)
    asking = [asyncio.create_task(cache.find_principal(b"known")) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    book.gate.set()
    assert await asyncio.gather(*asking[1:]) == [KNOWN] * 19
    assert book.reads == 1


async def test_a_cleared_cache_looks_again() -> None:
    book = Book()
    cache = make_cache(book)
    assert await cache.find_principal(b"known") == KNOWN
    book.principals.clear()
    cache.clear()
    assert await cache.find_principal(b"known") is None


async def test_a_look_up_that_began_before_a_revocation_lets_nobody_in() -> None:
    book = Book()
    book.gate.clear()
    cache = make_cache(book)
    asking = asyncio.create_task(cache.find_principal(b"known"))
    await asyncio.sleep(0.01)
    book.principals.clear()
    cache.clear()
    book.gate.set()
    assert await asking is None
    assert await cache.find_principal(b"known") is None


@pytest.mark.timed
async def test_an_expired_key_is_nobody_even_while_it_is_cached() -> None:
    book = Book()
    book.principals[hash_key(b"short")] = Principal(kind="inference", instances=None, expires_at=time.time() + 0.1)
    cache = make_cache(book)
    assert await cache.find_principal(b"short") is not None
    await asyncio.sleep(0.12)
    assert await cache.find_principal(b"short") is None


@pytest.mark.timed
async def test_a_key_in_use_is_read_again_without_its_requests_waiting() -> None:
    book = Book()
    cache = make_cache(book, refresh_age_s=0.02)
    await cache.find_principal(b"known")
    book.gate.clear()
    book.principals.clear()
    await asyncio.sleep(0.03)
    assert await cache.find_principal(b"known") == KNOWN
    book.gate.set()
    await wait_refused(cache)


@pytest.mark.parametrize("hears", [True, False])
async def test_a_key_is_believed_after_a_pause_only_where_changes_are_told(hears: bool) -> None:
    book = Book()
    cache = make_cache(book, refresh_age_s=0.02, max_age_s=60.0, hears=hears)
    await cache.find_principal(b"known")
    book.principals.clear()
    await asyncio.sleep(0.05)
    assert cache.recall(hash_key(b"known")) == (KNOWN if hears else None)
    await wait_refused(cache)


async def test_that_a_key_is_wrong_is_not_believed_for_long() -> None:
    book = Book()
    cache = make_cache(book, refresh_age_s=0.05, max_age_s=60.0)
    assert await cache.find_principal(b"new") is None
    book.principals[hash_key(b"new")] = KNOWN
    await asyncio.sleep(0.06)
    assert await cache.find_principal(b"new") == KNOWN


async def test_a_key_that_was_idle_for_long_is_not_believed_unread() -> None:
    book = Book()
    cache = make_cache(book, refresh_age_s=0.02, max_age_s=0.05)
    await cache.find_principal(b"known")
    book.principals.clear()
    await asyncio.sleep(0.06)
    assert await cache.find_principal(b"known") is None


@pytest.mark.timed
async def test_known_keys_outlive_a_broken_database_and_others_are_told_to_come_back() -> None:
    book = Book()
    cache = make_cache(book, refresh_age_s=0.01, max_age_s=0.02)
    await cache.find_principal(b"known")
    book.error = RuntimeError("no database")
    await asyncio.sleep(0.03)
    assert await cache.find_principal(b"known") == KNOWN
    with pytest.raises(GatewayError) as refusal:
        await cache.find_principal(b"another")
    assert refusal.value.status == 503
    assert refusal.value.retry_after_s


async def test_the_cache_stays_within_its_size_and_wrong_keys_push_out_no_right_ones() -> None:
    book = Book()
    for number in range(10):
        book.principals[hash_key(b"key-%d" % number)] = KNOWN
    cache = make_cache(book, max_entries=10)
    for number in range(10):
        await cache.find_principal(b"key-%d" % number)
    for number in range(50):
        await cache.find_principal(b"guess-%d" % number)
    reads = book.reads
    for number in range(10):
        await cache.find_principal(b"key-%d" % number)
    assert book.reads == reads
    await cache.find_principal(b"known")
    await cache.find_principal(b"key-9")
    assert book.reads == reads + 1
    await cache.find_principal(b"key-0")
    assert book.reads == reads + 2
