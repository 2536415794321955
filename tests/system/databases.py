"""Databases for stacks: SQLite in the stack's folder, or a new PostgreSQL database beside the one of the test run."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


def make_database(name: str, template: str = "") -> tuple[str, Callable[[], None]]:
    """Return the URL of a new database (empty: SQLite) and a function that drops it.

    ``CORRAL_TEST_DATABASE_URL`` names a PostgreSQL database whose user may make others. ``template`` names a database
    to copy; nobody may be connected to it.
    """
    base = os.environ.get("CORRAL_TEST_DATABASE_URL", "")
    if not base:
        return "", lambda: None
    source = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    run_statement(base, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + source)

    def drop() -> None:
        run_statement(base, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return urlunsplit(urlsplit(base)._replace(path=f"/{name}")), drop


def run_statement(url: str, statement: sql.Composed) -> None:
    """Run one statement outside of a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
