"""What is recorded, and that nothing is lost by a database that pauses, nor memory by one that stays away."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.accounting import Recorder, RequestEntry, UsageReader, end_reading
from gateway.accounting.usage import Usage
from gateway.structs import ANONYMOUS, Principal
from tests.gateway.accounting.entries import KEY, ROUTE, make_exchange
from tests.gateway.harness import wait_until

pytestmark = pytest.mark.any_database
SESSION = Principal(kind="session", user_id=3, instances=None)


class Store:
    """Stands for the database: keeps what is written, unless it is away."""

    def __init__(self) -> None:
        self.entries: list[RequestEntry] = []
        self.calls: list[tuple[int, bool]] = []
        self.is_away = False
        self.refused = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, entries: Sequence[RequestEntry], *, is_retry: bool) -> int:
        self.calls.append((len(entries), is_retry))
        self.gate.wait(10)
        if self.is_away:
            raise ConnectionError("the database is away")
        self.entries += entries
        return self.refused


def make_recorder(store: Store, **options: Any) -> Recorder:
    return Recorder(write=store, **({"interval_s": 0.01} | options))


async def record_one(**fields: Any) -> RequestEntry | None:
    """The entry made of this exchange, or None."""
    store = Store()
    recorder = make_recorder(store)
    recorder.record(make_exchange(**fields))
    recorder.start()
    await recorder.stop()
    assert recorder.written == len(store.entries)
    return store.entries[0] if store.entries else None


async def test_an_answered_request_is_recorded_with_all_that_is_known() -> None:
    reader = UsageReader.for_answer(b"/v1/chat/completions", [(b"content-type", b"text/event-stream")])
    assert reader is not None
    reader.feed(b'data: {"usage":{"prompt_tokens":20,"completion_tokens":50},"timings":{"cache_n":8}}\n\n')
    times = {"received_s": 100.0, "queued_s": 0.25, "first_byte_s": 100.5, "ended_s": 102.0}

    entry = await record_one(usage_reader=reader, **times)

    assert entry is not None
    assert (entry.user_id, entry.key_id, entry.client_address) == (1, 1, "10.0.0.9")
    assert (entry.instance_id, entry.instance_name, entry.backend_type) == (7, "alpha", "llama_cpp")
    assert (entry.requested_model, entry.path, entry.method) == ("alpha", "/v1/chat/completions", "POST")
    assert (entry.status, entry.outcome, entry.streamed, entry.error_message) == (200, "answered", True, "")
    assert (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens) == (20, 50, 8)
    assert (entry.queue_ms, entry.first_byte_ms, entry.duration_ms) == (250, 500, 2000)
    assert entry.request_id


async def test_a_client_that_left_is_told_apart_whatever_status_the_answer_had() -> None:
    entry = await record_one(outcome="cancelled", status=200)
    assert entry is not None
    assert (entry.status, entry.outcome) == (499, "cancelled")


async def test_an_engines_refusal_is_recorded_with_its_sentence() -> None:
    reader = UsageReader.for_answer(b"/v1/chat/completions", [(b"content-type", b"application/json")], status=400)
    assert reader is not None
    reader.feed(json.dumps({"error": {"message": "too long"}}).encode())
    entry = await record_one(usage_reader=reader, status=400)
    assert entry is not None
    assert (entry.status, entry.outcome, entry.error_message) == (400, "answered", "too long")


@pytest.mark.parametrize(
    ("fields", "is_recorded"),
    [
        ({}, True),
        ({"principal": ANONYMOUS}, True),
        ({"principal": None}, True),  # a public page of an instance
        ({"outcome": "refused", "status": 403, "route": None}, True),
        ({"outcome": "refused", "status": 404, "route": None, "principal": SESSION}, True),
        ({"outcome": "refused", "status": 429, "principal": ANONYMOUS}, True),
        # Strangers make no rows, nor does what concerns no instance
        ({"outcome": "refused", "status": 401, "route": None, "principal": None}, False),
        ({"outcome": "refused", "status": 401, "principal": None}, False),
        ({"outcome": "refused", "status": 404, "route": None, "principal": ANONYMOUS}, False),
        ({"route": None, "path": "/v1/models"}, False),
        ({"route": None, "outcome": "cancelled"}, False),
    ],
)
async def test_known_callers_and_known_instances_make_rows(fields: dict[str, Any], is_recorded: bool) -> None:
    assert (await record_one(**fields) is not None) == is_recorded


async def test_ending_the_reading_twice_changes_nothing() -> None:
    reader = UsageReader.for_answer(b"/x", [(b"content-type", b"application/json")])
    assert reader is not None
    reader.feed(b'{"usage":{"prompt_tokens":5}}')
    exchange = make_exchange(usage_reader=reader)
    end_reading(exchange)
    end_reading(exchange)
    assert exchange.usage == Usage(5)


async def test_ids_differ() -> None:
    store = Store()
    recorder = make_recorder(store)
    for _ in range(3):
        recorder.record(make_exchange())
    recorder.record(make_exchange(request_id="of-the-gateway"))
    recorder.start()
    await recorder.stop()
    ids = [entry.request_id for entry in store.entries]
    assert len(set(ids)) == 4
    assert ids[3] == "of-the-gateway"


class Uses:
    """Stands for the keys in the database."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[tuple[list[int], float]] = []
        self._failures = failures

    def __call__(self, key_ids: Sequence[int], used_at: float) -> None:
        self.calls.append((list(key_ids), used_at))
        if len(self.calls) <= self._failures:
            raise ConnectionError("the database is away")


async def test_keys_whose_requests_make_no_row_are_noted_once_for_all_that_they_asked() -> None:
    store, uses = Store(), Uses()
    recorder = make_recorder(store, note_keys=uses)
    began = time.time()
    for _ in range(50):
        recorder.record(make_exchange("/v1/models", route=None))
        recorder.record(make_exchange("/v1/models", route=None, principal=SESSION))
        recorder.record(make_exchange("/v1/models", route=None, principal=None))
    recorder.record(make_exchange("/metrics", route=None, principal=Principal(kind="management", key_id=5)))
    recorder.start()
    await recorder.stop()
    assert store.entries == []
    ((key_ids, used_at),) = uses.calls
    assert sorted(key_ids) == [1, 5]
    assert began <= used_at <= time.time()


async def test_uses_that_cannot_be_noted_do_not_end_the_recording(caplog: pytest.LogCaptureFixture) -> None:
    store, uses = Store(), Uses(failures=1)
    recorder = make_recorder(store, note_keys=uses)
    recorder.start()
    recorder.record(make_exchange("/v1/models", route=None))
    await wait_until(lambda: uses.calls)
    recorder.record(make_exchange())
    recorder.record(make_exchange("/v1/models", route=None))
    await wait_until(lambda: len(uses.calls) > 1)
    await recorder.stop()
    assert recorder.written == 1
    assert "When keys were last used could not be kept" in caplog.text


async def test_recording_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    recorder = make_recorder(Store())
    recorder.record(make_exchange(received_s=None))
    assert "could not be recorded" in caplog.text


async def test_requests_are_written_soon_and_in_batches() -> None:
    store = Store()
    recorder = make_recorder(store, batch_size=100)
    recorder.start()
    recorder.start()
    for _ in range(250):
        recorder.record(make_exchange())
    await wait_until(lambda: len(store.entries) == 250)
    assert max(count for count, _ in store.calls) <= 100
    await recorder.stop()
    assert (recorder.recorded, recorder.written, recorder.dropped) == (250, 250, 0)


async def test_a_paused_database_gets_every_request_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = Store()
    store.is_away = True
    recorder = make_recorder(store, batch_size=10)
    recorder.start()
    recorder.record(make_exchange(model="first"))
    await wait_until(lambda: store.calls)
    for number in range(25):
        recorder.record(make_exchange(model=f"m{number}"))
    store.is_away = False
    await wait_until(lambda: len(store.entries) == 26)
    assert [entry.requested_model for entry in store.entries] == ["first", *(f"m{number}" for number in range(25))]
    assert caplog.text.count("can't be recorded at the moment") == 1
    assert caplog.text.count("can be recorded again") == 1
    # What failed is tried again as it was, and only that may be there already.
    retries = [call for call in store.calls if call[1]]
    assert set(retries) == {(1, True)}
    assert [call for call in store.calls if not call[1]] == [(1, False), (10, False), (10, False), (5, False)]
    await recorder.stop()


async def test_at_the_bound_newer_requests_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.is_away = True
    recorder = make_recorder(store, max_entries=20)
    recorder.start()
    for number in range(50):
        recorder.record(make_exchange(model=str(number)))
    assert recorder.dropped == 30
    assert recorder.waiting == 20
    store.is_away = False
    await wait_until(lambda: store.entries)
    assert [entry.requested_model for entry in store.entries] == [str(number) for number in range(20)]
    await wait_until(lambda: "30 requests were not recorded (30 since the start)" in caplog.text)
    recorder.record(make_exchange())
    await recorder.stop()
    assert (recorder.written, recorder.dropped) == (21, 30)


async def test_what_the_database_will_never_take_counts_as_dropped() -> None:
    store = Store()
    store.refused = 1
    recorder = make_recorder(store)
    recorder.record(make_exchange())
    recorder.start()
    await recorder.stop()
    assert (recorder.written, recorder.dropped, recorder.waiting) == (0, 1, 0)


async def test_the_stop_writes_what_is_left_also_what_comes_while_it_is_writing() -> None:
    store = Store()
    recorder = make_recorder(store, interval_s=60, batch_size=5)
    recorder.start()
    for _ in range(12):
        recorder.record(make_exchange())
    store.gate.clear()
    recorder._wake.set()
    await wait_until(lambda: store.calls)
    recorder.record(make_exchange())
    store.gate.set()
    await recorder.stop()
    assert len(store.entries) == 13
    assert recorder.waiting == 0


async def test_a_stop_without_a_database_ends_in_time_and_counts_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.gate.clear()
    recorder = make_recorder(store)
    recorder.start()
    for _ in range(3):
        recorder.record(make_exchange())
    await wait_until(lambda: store.calls)
    await recorder.stop(timeout_s=0.05)
    assert recorder.dropped == 3
    assert "3 requests were not recorded" in caplog.text
    recorder.record(make_exchange())
    assert recorder.dropped == 4
    store.is_away = True
    store.gate.set()


async def test_the_last_attempt_at_the_stop_may_succeed() -> None:
    store = Store()
    store.is_away = True
    recorder = make_recorder(store)
    recorder.start()
    recorder.record(make_exchange())
    await wait_until(lambda: store.calls)
    store.is_away = False
    await recorder.stop()
    assert (recorder.written, recorder.dropped) == (1, 0)


async def test_nothing_is_lost_between_the_loop_and_the_thread() -> None:
    store = Store()
    recorder = make_recorder(store, interval_s=0.0001, batch_size=7)
    recorder.start()
    exchanges = [make_exchange(principal=KEY, route=ROUTE, request_id=str(number)) for number in range(20_000)]
    for exchange in exchanges:
        recorder.record(exchange)
    await recorder.stop()
    assert [entry.request_id for entry in store.entries] == [str(number) for number in range(20_000)]
