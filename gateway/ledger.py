"""The gateway's only writing to the database: requests, and their sums by the hour. Runs in the recorder's thread.

This thread shares its interpreter with the requests, and only one of them runs at a time. So it does next to nothing
for a single request: a batch goes to the database as one JSON text, which one statement for each table takes apart.
Meanwhile the interpreter is free.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, connection, transaction

from accounts.domain.key_use import note_keys_used
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from gateway.accounting.entry import RequestEntry
from gateway.accounting.sums import HourSum, add_up
from gateway.accounting.usage import LARGEST

logger = logging.getLogger(__name__)

# Django documents `_meta`, whatever its name says ("Model _meta API").
_RECORDS, _HOURS, _USERS, _KEYS = (
    model._meta.db_table  # noqa: SLF001
    for model in (RequestRecord, HourlyUsage, User, ApiKey)
)
_ENTRY_FIELDS = RequestEntry.__struct_fields__
_SUM_FIELDS = HourSum.__struct_fields__
_COLUMNS: dict[str, Any] = {name: RequestRecord._meta.get_field(name) for name in _ENTRY_FIELDS}  # noqa: SLF001
_UNFIT = (IntegrityError, DataError, TypeError, ValueError)
"""What one entry can cause, whatever the others are like."""
_USUAL_BYTES = 4_000
"""More than an entry takes up in JSON, unless a text is much longer than its column."""
_WIDEST = max(column.max_length or 0 for column in _COLUMNS.values())
"""The most characters that a column holds."""
_KINDS = {
    "CharField": "text",
    "BooleanField": "boolean",
    "FloatField": "double precision",
    "DateTimeField": "double precision",
}
"""PostgreSQL's types for the fields of entries by their columns; bigint for any other."""


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
    sums = add_up(entries)
    with transaction.atomic(), connection.cursor() as cursor:
        for statement, rows in zip(_make_statements(), (entries, sums), strict=True):
            batch = _encode(rows)
            # What each driver only copies: SQLite's would encode a text first, PostgreSQL's write bytes as digits.
            cursor.execute(statement, [batch if connection.vendor == "sqlite" else batch.decode()])
    key_ids = {row.key_id for row in sums if row.key_id}
    if key_ids:
        note_keys_used(key_ids, datetime.fromtimestamp(entries[-1].finished_at, UTC))  # they are in order of their ends


def _encode(rows: Sequence[msgspec.Struct]) -> bytes:
    """The rows as JSON, an array of arrays, without what a database refuses in a text."""
    with suppress(UnicodeEncodeError):  # half of a surrogate pair
        batch = msgspec.json.encode(rows)
        # A single byte is sought many times faster than a word.
        has_nul = b"\\" in batch and b"\\u0000" in batch
        if not has_nul and len(batch) < _USUAL_BYTES * len(rows):
            return batch
    return msgspec.json.encode([[_mend(value) for value in msgspec.structs.astuple(row)] for row in rows])


def _mend(value: Any) -> Any:
    """A text without NUL and halves of surrogate pairs, as long as the widest column; anything else as it is."""
    if not isinstance(value, str):
        return value
    return value[:_WIDEST].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


@cache
def _make_statements() -> tuple[str, str]:
    """The SQL that stores the entries of a batch and the SQL that stores its sums, each from one JSON parameter."""
    user_name = f"COALESCE(person.username, {_fit('user_name')})"
    key_name = f"COALESCE(api_key.name || ' (' || api_key.key_hint || '…)', {_fit('key_name')})"
    records = {name: _fit(name) for name in _ENTRY_FIELDS} | {
        "finished_at": _make_moment("entry.finished_at"),
        "user_id": "person.id",
        "key_id": "api_key.id",
        "user_name": user_name,
        "key_name": key_name,
    }
    hours = {name: f"entry.{name}" for name in _SUM_FIELDS} | {
        "hour": _make_moment("entry.hour"),
        "instance_name": _fit("instance_name"),
        "user_name": user_name,
        "key_name": key_name,
    }
    place, names, sums = _SUM_FIELDS[:4], _SUM_FIELDS[4:7], _SUM_FIELDS[7:]
    changes = [f"{name} = {_HOURS}.{name} + EXCLUDED.{name}" for name in sums]
    # A name that is unknown by now, because its person or key is gone, leaves the known one.
    changes += [f"{name} = COALESCE(NULLIF(EXCLUDED.{name}, ''), {_HOURS}.{name})" for name in names]
    # SQLite wants a WHERE, to tell this ON from one of the joins.
    suffix = f"WHERE true ON CONFLICT ({', '.join(place)}) DO UPDATE SET {', '.join(changes)}"
    return _make_insert(_RECORDS, records), _make_insert(_HOURS, hours, suffix)


def _make_insert(table: str, columns: dict[str, str], suffix: str = "") -> str:
    """SQL that inserts what the columns' expressions say of each `entry` of a batch, its `person` and its `api_key`.

    The fields of an entry are named and ordered as the columns.
    """
    source = "json_each(CAST(%s AS text))" if connection.vendor == "sqlite" else "jsonb_array_elements(%s::jsonb)"
    reads = [f"{_read(place, name)} AS {name}" for place, name in enumerate(columns)]
    # With a limit a query inside another is one of its own for SQLite too. Merged into one, each use of a field would
    # read it anew, and each reading would write the entry out as JSON and parse that.
    items = f"SELECT value FROM {source} LIMIT {LARGEST}"  # noqa: S608  names are this module's
    entries = f"SELECT {', '.join(reads)} FROM ({items}) AS item LIMIT {LARGEST}"  # noqa: S608  likewise
    head = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
    joins = (
        f"LEFT JOIN {_USERS} AS person ON person.id = entry.user_id "
        f"LEFT JOIN {_KEYS} AS api_key ON api_key.id = entry.key_id"
    )
    return f"{head} FROM ({entries}) AS entry {joins} {suffix}"


def _read(place: int, name: str) -> str:
    """SQL for a field of an entry in JSON; a time in whole microseconds."""
    is_time = name in ("finished_at", "hour")
    if connection.vendor == "sqlite":
        value = f"json_extract(value, '$[{place}]')"
        return f"CAST({value} * 1000000 AS integer)" if is_time else value
    kind = _KINDS.get(_COLUMNS[name].get_internal_type(), "bigint") if name in _COLUMNS else "bigint"
    value = f"(value->>{place})::{kind}"
    return f"trunc({value} * 1000000)::bigint" if is_time else value


def _fit(name: str) -> str:
    """SQL for a field of a request's `entry` as its column can hold it."""
    if length := _COLUMNS[name].max_length:
        return f"substr(entry.{name}, 1, {length})"
    if name.endswith("_ms"):
        return f"CASE WHEN entry.{name} < 0 THEN 0 WHEN entry.{name} > {LARGEST} THEN {LARGEST} ELSE entry.{name} END"
    return f"entry.{name}"


def _make_moment(microseconds: str) -> str:
    """SQL for a time as Django stores it, which in SQLite is a text, without a fraction where there is none."""
    if connection.vendor != "sqlite":
        return f"to_timestamp(({microseconds}) / 1000000.0)"
    fraction = f"({microseconds}) %% 1000000"
    return (
        f"datetime(({microseconds}) / 1000000, 'unixepoch')"
        f" || CASE {fraction} WHEN 0 THEN '' ELSE printf('.%%06d', {fraction}) END"
    )
