"""The gateway's only writing to the database: requests, and their sums by the hour. Runs in the recorder's thread.

It is SQL of its own, at a fraction of what making a model instance for each row costs: this thread shares its
interpreter with the requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, connection, transaction

from accounts.domain.key_use import note_keys_used
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from gateway.accounting.entry import CLIENT_CLOSED_REQUEST, RequestEntry

logger = logging.getLogger(__name__)

_RECORDS = RequestRecord._meta.db_table  # noqa: SLF001  documented by Django ("Model _meta API")
_HOURS = HourlyUsage._meta.db_table  # noqa: SLF001  likewise
_UNFIT = (IntegrityError, DataError, TypeError, ValueError)
"""What one entry can cause, whatever the others are like."""
_LARGEST = 2**31 - 1
_HOUR_S = 3600
_RECORD_COLUMNS = {
    "request_id": "text",
    "finished_at": "timestamptz",
    "user_id": "bigint",
    "key_id": "bigint",
    "user_name": "text",
    "key_name": "text",
    "client_address": "text",
    "instance_id": "bigint",
    "instance_name": "text",
    "backend_type": "text",
    "requested_model": "text",
    "path": "text",
    "method": "text",
    "status": "integer",
    "outcome": "text",
    "error_message": "text",
    "streamed": "boolean",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "cached_tokens": "integer",
    "tokens_are_floor": "boolean",
    "prompt_per_second": "double precision",
    "tokens_per_second": "double precision",
    "queue_ms": "integer",
    "first_byte_ms": "integer",
    "duration_ms": "integer",
}
"""The columns with PostgreSQL's names of their types."""
_KEY_COLUMNS = {"hour": "timestamptz", "user_id": "bigint", "key_id": "bigint", "instance_id": "bigint"}
_NAME_COLUMNS = {"user_name": "text", "key_name": "text", "instance_name": "text"}
_SUM_COLUMNS = {
    "requests": "bigint",
    "errors": "bigint",
    "refused": "bigint",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "cached_tokens": "bigint",
    "duration_ms": "bigint",
}
_ADD_UP = (
    f"ON CONFLICT ({', '.join(_KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(f"{name} = {_HOURS}.{name} + EXCLUDED.{name}" for name in _SUM_COLUMNS)
    # A name that is unknown by now, because its person or key is gone, leaves the known one.
    + "".join(f", {name} = COALESCE(NULLIF(EXCLUDED.{name}, ''), {_HOURS}.{name})" for name in _NAME_COLUMNS)
)


def write_requests(entries: Sequence[RequestEntry], *, is_retry: bool = False) -> int:
    """Store requests and add them to the sums of their hours, in one short transaction.

    Returns how many the database will never take (each is logged). Raises `django.db.DatabaseError` when it can't be
    told or the database doesn't answer; calling again with `is_retry` then stores what isn't stored yet.

    The thread's connection stays open until `close_connection`, or until something fails: the last one that leaves a
    SQLite database clears up its whole journal, which cost as much as writing the rows.
    """
    try:
        if is_retry:
            entries = _drop_stored(entries)
        try:
            _store(entries)
        except _UNFIT:
            # A person or key was deleted this moment, or a value is one that the database can't hold.
            return sum(not _try_store(entry) for entry in entries)
        return 0
    except Exception:
        connection.close()
        raise


def note_keys(key_ids: Sequence[int], used_at: float) -> None:
    """Keep that keys were used for what makes no row, such as a list of models. What can't be kept is logged only."""
    if not note_keys_used(key_ids, datetime.fromtimestamp(used_at, UTC)):
        connection.close()  # it may be a dead one


def close_connection() -> None:
    """Close what `write_requests` and `note_keys` have left open in this thread."""
    connection.close()


def _drop_stored(entries: Sequence[RequestEntry]) -> list[RequestEntry]:
    found = RequestRecord.objects.filter(request_id__in=[entry.request_id for entry in entries])
    stored = set(found.values_list("request_id", flat=True))
    return [entry for entry in entries if entry.request_id not in stored]


def _try_store(entry: RequestEntry) -> bool:
    try:
        _store([entry])
    except _UNFIT as error:
        logger.error("The request %s can't be recorded: %s", entry.request_id, error)  # noqa: TRY400  no fault of ours
        return False
    return True


def _store(entries: Sequence[RequestEntry]) -> None:
    if not entries:
        return
    users, keys = _find_names(entries)
    sums: dict[tuple[int, int, int, int], list[Any]] = {}
    rows = [_make_row(entry, users, keys, sums) for entry in entries]
    # In one order in every process: two that locked each other's rows would wait for ever.
    hours = [(_to_time(place[0] * _HOUR_S), *place[1:], *sums[place]) for place in sorted(sums)]
    with transaction.atomic(), connection.cursor() as cursor:
        _insert(cursor, _RECORDS, _RECORD_COLUMNS, rows)
        _insert(cursor, _HOURS, _KEY_COLUMNS | _NAME_COLUMNS | _SUM_COLUMNS, hours, _ADD_UP)
    if keys:
        note_keys_used(
            [key for key in keys if key is not None],
            datetime.fromtimestamp(max(entry.finished_at for entry in entries), UTC),
        )


def _find_names(entries: Sequence[RequestEntry]) -> tuple[dict[int | None, str], dict[int | None, str]]:
    """The names of the people and keys that still exist, by id."""
    user_ids = {entry.user_id for entry in entries if entry.user_id is not None}
    key_ids = {entry.key_id for entry in entries if entry.key_id is not None}
    users = User.objects.filter(pk__in=user_ids).values_list("pk", "username")
    keys = ApiKey.objects.filter(pk__in=key_ids).values_list("pk", "name", "key_hint")
    return dict(users), {pk: f"{name} ({hint}…)" for pk, name, hint in keys}


def _make_row(
    entry: RequestEntry,
    users: dict[int | None, str],
    keys: dict[int | None, str],
    sums: dict[tuple[int, int, int, int], list[Any]],
) -> tuple[Any, ...]:
    """The row for an entry, which is added to `sums` too."""
    has_user, has_key = entry.user_id in users, entry.key_id in keys
    user_name = users[entry.user_id] if has_user else _clean(entry.user_name, 150)
    key_name = keys[entry.key_id] if has_key else _clean(entry.key_name, 150)
    instance_name = _clean(entry.instance_name, 50)
    duration_ms = _bound(entry.duration_ms)
    place = (
        int(entry.finished_at // _HOUR_S),
        entry.user_id or 0,
        entry.key_id or 0,
        entry.instance_id or 0,
    )
    total = sums.get(place)
    if total is None:
        total = sums[place] = [user_name, key_name, instance_name, 0, 0, 0, 0, 0, 0, 0]
    total[3] += 1
    if entry.outcome == "upstream_lost" or (entry.status >= 400 and entry.status != CLIENT_CLOSED_REQUEST):
        total[4] += 1
    if entry.outcome == "refused":
        total[5] += 1
    total[6] += entry.prompt_tokens
    total[7] += entry.completion_tokens
    total[8] += entry.cached_tokens
    total[9] += duration_ms
    return (
        entry.request_id,
        _to_time(entry.finished_at),
        entry.user_id if has_user else None,
        entry.key_id if has_key else None,
        user_name,
        key_name,
        _clean(entry.client_address, 64),
        entry.instance_id,
        instance_name,
        entry.backend_type,
        _clean(entry.requested_model, 200),
        _clean(entry.path, 200),
        _clean(entry.method, 20),
        entry.status,
        entry.outcome,
        _clean(entry.error_message, 300),
        entry.streamed,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.cached_tokens,
        entry.tokens_are_floor,
        entry.prompt_per_second,
        entry.tokens_per_second,
        _bound(entry.queue_ms),
        None if entry.first_byte_ms is None else _bound(entry.first_byte_ms),
        duration_ms,
    )


@lru_cache(maxsize=4096)
def _clean(text: str, length: int) -> str:
    """The text as any database can hold it: no NUL, no half of a surrogate pair, not too long."""
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:length]


def _bound(value: int) -> int:
    return min(max(value, 0), _LARGEST)


def _to_time(seconds: float) -> str:
    """Seconds since the epoch as both databases read them, in UTC."""
    whole, millionths = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_format_second(whole)}.{millionths:06}" if millionths else _format_second(whole)


@lru_cache(maxsize=16)
def _format_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _insert(cursor: Any, table: str, columns: Mapping[str, str], rows: Sequence[Any], suffix: str = "") -> None:
    """Insert all rows, with little work for this interpreter."""
    head = f"INSERT INTO {table} ({', '.join(columns)})"
    if connection.vendor == "sqlite":
        _insert_values(head, len(columns), rows, suffix)
    else:
        # One parameter: the server takes the JSON apart. The driver would put each of thousands into the text itself.
        values = ", ".join(f"(value->>{place})::{kind}" for place, kind in enumerate(columns.values()))
        sql = f"{head} SELECT {values} FROM jsonb_array_elements(%s::jsonb) {suffix}"  # noqa: S608  names are this module's
        cursor.execute(sql, [msgspec.json.encode(rows).decode()])


def _insert_values(head: str, width: int, rows: Sequence[Any], suffix: str) -> None:
    """Insert with as many parameters as SQLite takes, by its own driver: Django's looks through every placeholder."""
    row = f"({', '.join('?' * width)})"
    step = (connection.features.max_query_params or 999) // width
    with connection.wrap_database_errors:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            sql = f"{head} VALUES {', '.join([row] * len(part))} {suffix}"
            connection.connection.execute(sql, list(chain.from_iterable(part)))
