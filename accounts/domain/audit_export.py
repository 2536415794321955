"""The audit as a file: CSV for spreadsheets, JSON lines for programs. Made piece by piece, however long it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from accounts.domain.audit_search import describe_entry
from accounts.models import AuditEntry

PIECE = 500
COLUMNS = (
    "id", "created_at", "actor", "user", "key", "key_id", "source", "client_address", "request_id", "action",
    "target_type", "target_id", "target", "before", "after",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection)."""


async def export_entries(
    rows: QuerySet[AuditEntry], write: Callable[[Sequence[AuditEntry]], str], head: str = ""
) -> AsyncIterator[str]:
    """Yield the rows, newest first, as ``write`` puts them; each piece is a short query of its own."""
    if head:
        yield head
    last: int | None = None
    while True:
        wanted = rows if last is None else rows.filter(pk__lt=last)
        piece = await sync_to_async(read_piece)(wanted)
        if piece:
            yield write(piece)
        if len(piece) < PIECE:
            return
        last = piece[-1].pk


def read_piece(rows: QuerySet[AuditEntry]) -> list[AuditEntry]:
    """Return the newest of the rows."""
    return list(rows.order_by("-pk")[:PIECE])


def write_json_lines(entries: Sequence[AuditEntry]) -> str:
    """Return each entry as a JSON object on a line of its own, as the API shows it."""
    lines = (json.dumps(describe_entry(entry), ensure_ascii=False, separators=(",", ":")) for entry in entries)
    return "".join(f"{line}\n" for line in lines)


def write_csv(entries: Sequence[AuditEntry]) -> str:
    """Return rows of CSV (RFC 4180) in the order of ``COLUMNS``; times in ISO 8601, UTC."""
    return write_rows([make_row(entry) for entry in entries])


def write_head() -> str:
    """Return the first row of the CSV file."""
    return write_rows([list(COLUMNS)])


def make_row(entry: AuditEntry) -> list[str]:
    """Return an entry's cells, none of which a spreadsheet takes for a formula."""
    shown: dict[str, Any] = describe_entry(entry)
    shown["created_at"] = entry.created_at.astimezone(UTC).isoformat()
    cells = []
    for name in COLUMNS:
        value = shown[name]
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cells.append(f"'{text}" if text.startswith(FORMULA) else text)
    return cells


def write_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as CSV."""
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()
