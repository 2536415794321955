"""Making an installation ready for its web server and workers: database, broker, static files, first people.

Run by ``corral prepare`` before every start. Each step is safe to repeat and safe to run on two hosts at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from accounts.domain.setup import apply_first_run_settings, is_set_up, make_setup_token
from portal import __version__
from portal.cli import first_line
from portal.env import SettingsError
from portal.up.manager import url_host

CONNECT_TIMEOUT_S = 5
#: PostgreSQL advisory lock of the migrations; any number will do that other programs on the database don't use.
MIGRATION_LOCK = 0x636F7272616C


def prepare_installation() -> list[str]:
    """Do every step; return sentences for the console. Raises SettingsError naming what can't be reached or used."""
    check_redis()
    unpooled = check_database()
    try:
        with hold_preparation_lock(unpooled):
            said = apply_migrations()
            said += collect_static_files()
            said += make_first_people()
    finally:
        unpooled.close()
    return said


def check_redis() -> None:
    """Raise SettingsError when the configured Redis does not answer. The embedded one is its starter's to check."""
    url = settings.CORRAL.redis_url
    if not url:
        return
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S)
        client.ping()
        client.close()
    except (redis.RedisError, ValueError, OSError) as error:
        raise SettingsError(
            f"Redis at {mask_password(url)} can't be reached: {first_line(error)} Check CORRAL_REDIS_URL."
        ) from error


def check_database() -> BaseDatabaseWrapper:
    """Return an open connection outside the pool; raise SettingsError when the database can't be reached."""
    unpooled = connection.copy()
    options = {name: value for name, value in unpooled.settings_dict["OPTIONS"].items() if name != "pool"}
    if unpooled.vendor == "postgresql":
        options["connect_timeout"] = CONNECT_TIMEOUT_S
    unpooled.settings_dict = {**unpooled.settings_dict, "OPTIONS": options}
    try:
        unpooled.ensure_connection()
    except OperationalError as error:
        where = mask_password(settings.CORRAL.database_url) or unpooled.settings_dict["NAME"]
        raise SettingsError(
            f"The database {where} can't be reached: {first_line(error)}. Check CORRAL_DATABASE_URL."
        ) from error
    return unpooled


@contextmanager
def hold_preparation_lock(unpooled: BaseDatabaseWrapper) -> Iterator[None]:
    """Let one host (PostgreSQL's advisory lock) and one process of this host (flock) prepare at a time."""
    run_dir = settings.CORRAL.data_dir / "run"
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (run_dir / "prepare.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if unpooled.vendor == "postgresql":
            with unpooled.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        yield  # closing the file and the connection gives both locks back


def apply_migrations() -> list[str]:
    """Bring the tables up to date; Django's command, and its import of every model, only when there is work."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return []
    call_command("migrate", interactive=False, verbosity=0)
    return [f"Applied {len(plan)} database migrations."]


def collect_static_files() -> list[str]:
    """Collect static files when Corral's version or one of the files changed since the last time."""
    target = Path(settings.STATIC_ROOT)
    stamp = target / ".stamp"
    digest = digest_static_files()
    if stamp.is_file() and stamp.read_text() == digest:
        return []
    call_command("collectstatic", interactive=False, verbosity=0, clear=target.is_dir())
    draft = target / f".stamp.{os.getpid()}"
    draft.write_text(digest)
    draft.replace(stamp)
    return ["Collected the static files."]


def digest_static_files() -> str:
    """Return a digest of the version and of the name, size and time of every source file."""
    digest = hashlib.sha256(__version__.encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            found = Path(storage.path(name)).stat()
            digest.update(f"\0{name}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    return digest.hexdigest()


def make_first_people() -> list[str]:
    """Apply CORRAL_ADMIN_* and CORRAL_MANAGEMENT_KEY; offer the set-up link while there is no administrator."""
    corral = settings.CORRAL
    try:
        said = apply_first_run_settings(
            admin_user=corral.admin_user, admin_password=corral.admin_password, management_key=corral.management_key
        )
    except ValidationError as error:
        raise SettingsError(f"The first administrator can't be made: {' '.join(error.messages)}") from error
    if not is_set_up():
        link = f"http://{url_host(corral.host)}:{corral.port}/setup/{make_setup_token()}/"
        said.append(f"There is no administrator yet. Make the first one within a day: {link}")
    return said


def mask_password(url: str) -> str:
    """Return a URL with its password replaced, for messages."""
    return re.sub(r"(?<=://)([^/@:]*):([^/@]*)@", r"\1:***@", url)
