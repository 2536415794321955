"""Rows and sums in a real database: whole, once, and right with several writers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from django.db import OperationalError, connection, transaction

from accounts.domain.key_use import note_keys_used
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from gateway import ledger
from gateway.accounting import Recorder, RequestEntry, entry
from gateway.ledger import note_keys, write_requests
from gateway.loader import find_principal
from tests.factories import make_key, make_user
from tests.gateway.accounting.entries import make_entry, make_exchange
from tests.gateway.harness import wait_until
from tests.system.stack import poll

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def run_together(*functions: Any) -> None:
    """Call the functions at the same moment in threads of their own; raise what the first one raised."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Any) -> None:
        barrier.wait(10)
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def test_a_request_is_stored_with_everything_and_the_names_of_its_time() -> None:
    user = make_user("mia")
    make_key(user)
    key = ApiKey.objects.get()
    moment = NOON.timestamp() + 0.25
    entry = make_entry(user_id=user.pk, key_id=key.pk, finished_at=moment, streamed=True, first_byte_ms=None)
    entry = msgspec.structs.replace(entry, tokens_are_floor=True)

    assert write_requests([entry]) == 0

    row = RequestRecord.objects.get()
    plain = {
        name: getattr(row, name)
        for name in RequestEntry.__struct_fields__
        if name not in ("finished_at", "prompt_per_second", "user_name", "key_name")
    }
    assert plain == {name: getattr(entry, name) for name in plain}
    assert row.finished_at == datetime(2026, 3, 4, 12, 0, 0, 250_000, tzinfo=UTC)
    assert row.prompt_per_second == pytest.approx(400.5)
    assert (row.user, row.key, row.user_name) == (user, key, "mia")
    assert row.key_name == f"{key.name} ({key.key_hint}…)"
    user.delete()
    row.refresh_from_db()
    assert (row.user, row.key, row.user_name) == (None, None, "mia")


def test_whole_seconds_compare_like_any_other_moment() -> None:
    write_requests([make_entry(finished_at=NOON.timestamp()), make_entry(finished_at=NOON.timestamp() + 0.5)])
    assert RequestRecord.objects.filter(finished_at__gte=NOON).count() == 2
    assert RequestRecord.objects.filter(finished_at__lt=NOON).count() == 0
    assert RequestRecord.objects.filter(finished_at=NOON).count() == 1


def test_sums_are_kept_by_hour_person_key_and_instance() -> None:
    anna, ben = make_user("anna"), make_user("ben")
    moment = NOON.timestamp()
    write_requests(
        [
            make_entry(user_id=anna.pk, finished_at=moment),
            make_entry(user_id=anna.pk, finished_at=moment + 3599.9, status=500, outcome="answered"),
            make_entry(user_id=anna.pk, finished_at=moment + 3600),
            make_entry(user_id=ben.pk, finished_at=moment, status=499, outcome="cancelled"),
            make_entry(user_id=ben.pk, finished_at=moment, status=200, outcome="upstream_lost", instance_id=8),
            make_entry(finished_at=moment, status=403, outcome="refused", instance_id=None, instance_name=""),
        ]
    )
    write_requests([make_entry(user_id=anna.pk, finished_at=moment)])
    found = {
        (row.hour.hour, row.user_name, row.instance_id): (row.requests, row.errors, row.prompt_tokens, row.duration_ms)
        for row in HourlyUsage.objects.all()
    }
    assert found == {
        (12, "anna", 7): (3, 1, 60, 90),
        (13, "anna", 7): (1, 0, 20, 30),
        (12, "ben", 7): (1, 0, 20, 30),
        (12, "ben", 8): (1, 1, 20, 30),
        (12, "", 0): (1, 1, 20, 30),
    }
    assert set(HourlyUsage.objects.values_list("completion_tokens", "cached_tokens")) >= {(150, 24), (50, 8)}


def test_what_any_database_can_hold_is_made_to_fit() -> None:
    text = "a\0b\ud800" + "x" * 1000
    entry = make_entry(
        requested_model=text,
        path=text,
        method=text,
        error_message=text,
        client_address=text,
        instance_name=text,
        duration_ms=10**12,
        queue_ms=-5,
        first_byte_ms=10**12,
    )
    assert write_requests([entry]) == 0
    row = RequestRecord.objects.get()
    assert row.requested_model == ("a\N{REPLACEMENT CHARACTER}b?" + "x" * 1000)[:200]
    assert (row.duration_ms, row.queue_ms, row.first_byte_ms) == (2**31 - 1, 0, 2**31 - 1)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("half \ud83d, other half \ude00", "half ?, other half ?"),
        ("half \ud83d and \0", "half ? and \N{REPLACEMENT CHARACTER}"),
        ("\\u0000 is no NUL", None),
        ("\\ \\\" \" ' '' `", None),
        ("\x01\x08\t\n\x0b\f\r\x1b\x1f\x7f\x80\x9f", None),
        ("é ß e\N{COMBINING ACUTE ACCENT} \u2028 \ufeff \ufffe \uffff", None),
        ("\U0001f600 \U0001f469\u200d\U0001f680 \U0010ffff", None),
        ("%s %(a)s %% ? $1 {} [] , null true 1e5", None),
        (" 12 ", None),
        ("0123", None),
        ("", None),
    ],
)
def test_any_text_is_stored_as_it_came_but_for_what_no_database_holds(text: str, stored: str | None) -> None:
    names = ("instance_name", "requested_model", "path", "error_message", "user_name", "key_name")
    plain = make_entry()

    assert write_requests([plain, make_entry(**dict.fromkeys(names, text))]) == 0

    row = RequestRecord.objects.exclude(request_id=plain.request_id).get()
    assert [getattr(row, name) for name in names] == [text if stored is None else stored] * len(names)
    assert RequestRecord.objects.filter(path=text if stored is None else stored, method="POST").count() == 1
    assert RequestRecord.objects.get(request_id=plain.request_id).path == plain.path


def test_a_text_is_cut_between_characters_however_long_it_is() -> None:
    text = "\U0001f600" * 3_000_000
    entry = make_entry(requested_model=text, error_message=text)
    assert len(ledger._encode([entry])) < 10_000
    assert write_requests([entry]) == 0
    row = RequestRecord.objects.get()
    assert (row.requested_model, row.error_message) == (text[:200], text[:300])


@pytest.mark.parametrize("second", [0, 0.000001, 0.1, 0.999999, 59.5, 3599.999999])
def test_a_moment_is_kept_to_the_microsecond(second: float) -> None:
    moment = NOON + timedelta(seconds=second)
    write_requests([make_entry(finished_at=moment.timestamp() + 1e-7)])  # else the float may be a little less
    assert RequestRecord.objects.get(finished_at=moment).finished_at == moment
    assert HourlyUsage.objects.get().hour == NOON


def test_numbers_and_flags_are_kept_exactly() -> None:
    largest = 2**31 - 1
    full = {
        "prompt_tokens": largest,
        "completion_tokens": largest,
        "cached_tokens": largest,
        "prompt_per_second": 1 / 3,
        "tokens_per_second": 123456789.12345679,
        "queue_ms": largest,
        "first_byte_ms": largest,
        "duration_ms": largest,
        "streamed": True,
        "tokens_are_floor": True,
        "instance_id": 2**40,
    }
    empty = {name: None if name in ("prompt_per_second", "tokens_per_second") else 0 for name in full}
    empty |= {"first_byte_ms": None, "streamed": False, "tokens_are_floor": False, "instance_id": None}
    write_requests([make_entry(**full), make_entry(**empty)])
    rows = RequestRecord.objects.order_by("duration_ms").values(*full)
    assert list(rows) == [empty, full]


def test_people_and_keys_that_are_gone_leave_their_requests_and_the_sums_names() -> None:
    user = make_user("mia")
    make_key(user)
    ids = {"user_id": user.pk, "key_id": ApiKey.objects.get().pk}
    write_requests([make_entry(finished_at=NOON.timestamp(), **ids)])
    user.delete()
    write_requests([make_entry(finished_at=NOON.timestamp(), **ids)])
    assert RequestRecord.objects.filter(user=None, key=None).count() == 2
    total = HourlyUsage.objects.get()
    assert (total.user_id, total.key_id, total.requests, total.user_name) == (*ids.values(), 2, "mia")
    assert total.key_name


def test_a_request_in_work_when_its_person_and_key_are_deleted_keeps_their_names() -> None:
    """Or whoever misused a key could wipe it from the trace by deleting it meanwhile."""
    user = make_user("mia")
    make_key(user)
    key = ApiKey.objects.get()
    principal = find_principal(key.key_hash)
    assert principal is not None
    exchange = make_exchange(principal=principal)
    user.delete()
    write_requests([entry.make_entry(exchange)])
    row, total = RequestRecord.objects.get(), HourlyUsage.objects.get()
    assert (row.user, row.key, row.user_name, row.key_name) == (None, None, "mia", str(key))
    assert (total.user_name, total.key_name) == ("mia", str(key))


def has_waiting() -> bool:
    """Whether a transaction of PostgreSQL waits for another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


def test_a_person_deleted_while_a_batch_is_written_costs_no_request() -> None:
    user = make_user("mia")
    entries = [make_entry(user_id=user.pk), make_entry()]
    is_deleted = threading.Event()

    def delete() -> None:
        with transaction.atomic():
            User.objects.all().delete()
            is_deleted.set()
            if connection.vendor == "postgresql":  # others still see the person, and wait at their commit
                poll(has_waiting, what="the batch waits for the deletion")

    def write() -> None:
        assert is_deleted.wait(10)
        assert write_requests(entries) == 0

    run_together(delete, write)

    assert list(RequestRecord.objects.values_list("user", flat=True)) == [None, None]
    assert sum(HourlyUsage.objects.values_list("requests", flat=True)) == 2


def test_one_request_that_cannot_be_stored_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    entries = [make_entry(), make_entry(status=-1), make_entry()]
    assert write_requests(entries) == 1
    assert RequestRecord.objects.count() == 2
    assert HourlyUsage.objects.get().requests == 2
    assert entries[1].request_id in caplog.text


def test_a_batch_is_stored_whole_or_not_at_all_and_a_retry_stores_it_once() -> None:
    entries = [make_entry() for _ in range(30)]
    write_requests(entries[:10])
    write_requests(entries, is_retry=True)
    write_requests(entries, is_retry=True)
    assert RequestRecord.objects.count() == 30
    assert sum(HourlyUsage.objects.values_list("requests", flat=True)) == 30


def test_a_batch_takes_one_statement_for_each_table_whatever_its_size(django_assert_max_num_queries: Any) -> None:
    make_key(make_user("mia"))
    ids = {"user_id": User.objects.get().pk, "key_id": ApiKey.objects.get().pk}
    with django_assert_max_num_queries(8) as context:  # begin, two inserts, commit; four for when the key was used
        write_requests([make_entry(instance_id=number % 10, **ids) for number in range(2000)])
    inserts = [query["sql"].split(" (")[0] for query in context.captured_queries if "INSERT" in query["sql"]]
    assert inserts == ["INSERT INTO accounts_requestrecord", "INSERT INTO accounts_hourlyusage"]


def test_the_sums_are_those_of_the_rows() -> None:
    random = Random(1)
    users = [make_user(f"u{number}").pk for number in range(3)]
    numbers = ("prompt_tokens", "completion_tokens", "cached_tokens", "duration_ms")

    def make_any() -> RequestEntry:
        changes: dict[str, Any] = {name: random.choice((0, 7, 2**31 - 1)) for name in numbers}
        return make_entry(
            finished_at=NOON.timestamp() + random.choice((0, 0.1, 3599.999999, 3600, 7200.5)),
            user_id=random.choice(users),
            instance_id=random.choice((7, 8)),
            status=random.choice((0, 200, 399, 400, 499, 503)),
            outcome=random.choice(("answered", "refused", "cancelled", "upstream_lost")),
            **changes,
        )

    write_requests([make_any() for _ in range(300)])

    expected: dict[Any, list[int]] = {}
    for row in RequestRecord.objects.all():
        place = (
            row.finished_at.replace(minute=0, second=0, microsecond=0),
            row.user_name,
            row.user_id,
            row.instance_id,
        )
        is_error = row.outcome == "upstream_lost" or (row.status >= 400 and row.status != 499)
        values = (1, is_error, row.outcome == "refused", *(getattr(row, name) for name in numbers))
        total = expected.setdefault(place, [0] * len(values))
        expected[place] = [one + other for one, other in zip(total, values, strict=True)]
    found = {
        (row.hour, row.user_name, row.user_id, row.instance_id): [
            getattr(row, name) for name in ("requests", "errors", "refused", *numbers)
        ]
        for row in HourlyUsage.objects.all()
    }
    assert len(found) == 3 * 3 * 2
    assert found == expected


def test_two_writers_of_the_same_hour_add_up() -> None:
    users = [make_user(f"u{number}").pk for number in range(8)]

    def write(order: int) -> None:
        for turn in range(10):
            batch = [make_entry(user_id=user, finished_at=NOON.timestamp() + turn) for user in users[::order]]
            write_requests(batch)

    run_together(*(lambda order=order: write(order) for order in (1, -1, 1, -1)))

    assert RequestRecord.objects.count() == 4 * 10 * 8
    assert {row.requests for row in HourlyUsage.objects.all()} == {40}
    assert HourlyUsage.objects.count() == 8


def count_records() -> int:
    """Called in a thread of its own, whose connection nobody else would close."""
    try:
        return RequestRecord.objects.count()
    finally:
        connection.close()


@contextlib.contextmanager
def blocked_writers() -> Iterator[None]:
    """Make the database refuse our writes by holding what they need, as a long maintenance job would."""
    is_sqlite = connection.vendor == "sqlite"
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                if not is_sqlite:  # SQLite's transaction is the lock
                    cursor.execute("LOCK TABLE accounts_requestrecord IN ACCESS EXCLUSIVE MODE")
                begun.set()
                end.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    try:
        yield
    finally:
        end.set()
        thread.join(30)


async def test_a_database_that_pauses_gets_every_request_once() -> None:
    failures: list[Exception] = []

    def write(entries: Any, *, is_retry: bool) -> int:
        """Wait for a moment only: in SQLite as long as the connection lives, in PostgreSQL in this transaction.

        What fails closes the connection, and a pool of PostgreSQL hands it on, with what was set for good.
        """
        is_sqlite = connection.vendor == "sqlite"
        try:
            with contextlib.nullcontext() if is_sqlite else transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA busy_timeout = 50" if is_sqlite else "SET LOCAL lock_timeout = 50")
                return write_requests(entries, is_retry=is_retry)
        except OperationalError as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    recorder = Recorder(write=write, interval_s=0.02)
    with blocked_writers():
        recorder.start()
        for _ in range(20):
            recorder.record(make_exchange(principal=None))
        await wait_until(lambda: failures)
        for _ in range(20):
            recorder.record(make_exchange(principal=None))
        assert recorder.waiting == 40
    await wait_until(lambda: recorder.written == 40)
    await recorder.stop()
    assert await asyncio.to_thread(count_records) == 40
    assert recorder.dropped == 0


async def test_the_end_of_a_process_writes_what_is_left() -> None:
    recorder = Recorder(write=write_requests, interval_s=60)
    recorder.start()
    for _ in range(5):
        recorder.record(make_exchange(principal=None))
    await recorder.stop()
    assert await asyncio.to_thread(count_records) == 5


def test_a_batch_keeps_when_its_keys_were_used_in_one_write_each_ten_seconds() -> None:
    user = make_user("mia")
    for _ in range(3):
        make_key(user)
    used, idle, _ = ApiKey.objects.order_by("id")
    noon = NOON.timestamp()

    write_requests([make_entry(key_id=used.pk, finished_at=noon + number) for number in range(5)])
    used.refresh_from_db()
    idle.refresh_from_db()
    assert used.last_used_at is not None
    assert (used.last_used_at.timestamp(), idle.last_used_at) == (noon + 4, None)

    write_requests([make_entry(key_id=used.pk, finished_at=noon + 14)])
    used.refresh_from_db()
    assert used.last_used_at.timestamp() == noon + 4
    write_requests([make_entry(key_id=used.pk, finished_at=noon + 15)])
    used.refresh_from_db()
    assert used.last_used_at.timestamp() == noon + 15
    note_keys_used([used.pk], NOON)  # what comes late changes nothing
    used.refresh_from_db()
    assert used.last_used_at.timestamp() == noon + 15


def test_a_key_that_only_lists_models_was_used_too() -> None:
    make_key(make_user("mia"))
    key = ApiKey.objects.get()

    note_keys([key.pk, 999], NOON.timestamp())

    key.refresh_from_db()
    assert key.last_used_at == NOON
    assert not RequestRecord.objects.exists()


def test_the_hours_tell_what_corral_refused_itself() -> None:
    write_requests(
        [
            make_entry(finished_at=NOON.timestamp(), outcome="refused", status=429),
            make_entry(finished_at=NOON.timestamp(), status=500),
        ]
    )
    hour = HourlyUsage.objects.get()
    assert (hour.requests, hour.errors, hour.refused) == (2, 2, 1)
