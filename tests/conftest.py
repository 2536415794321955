"""What every test may use: people, their keys, a client of the management API, and changed settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.test import Client, override_settings
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from accounts.enums import KeyKind, Role
from accounts.models import User
from gateway.brake import BRAKE
from tests.factories import make_key, make_user

# How long the making of an example takes says something about the machine, not about Corral.
hypothesis_settings.register_profile("corral", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("corral")

DATABASE_FIXTURES = {"db", "transactional_db"}
SYSTEM = Path(__file__).parent / "system"
BROWSER = Path(__file__).parent / "e2e"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser, and what touches no database, as pytest-django sees to where no test asks for it.

    The tests of the whole ask by other means: each Corral has a database of its own. A browser's driver occupies the
    event loop of its process for good, and one such test among the others breaks those after it: the folder decides,
    not a mark that a file may lack.
    """
    for item in items:
        if BROWSER in item.path.parents:
            item.add_marker("browser")
        asks = DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("django_db")
        if not asks and SYSTEM not in item.path.parents:
            item.add_marker("any_database")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Keep SQLite's test database in a file, as in service: one in memory locks tables instead of queueing writers."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture
def change_settings(settings: Any) -> Callable[..., None]:
    """Return a function that changes Corral's settings for this test."""

    def change(**values: object) -> None:
        settings.CORRAL = msgspec.structs.replace(settings.CORRAL, **values)

    return change


@pytest.fixture
def admin(db: None) -> User:
    """An administrator."""
    return make_user("ada", Role.ADMIN)


@pytest.fixture
def operator(db: None) -> User:
    """An operator."""
    return make_user("olga", Role.OPERATOR)


@pytest.fixture
def member(db: None) -> User:
    """A member."""
    return make_user("mia", Role.MEMBER)


@pytest.fixture(scope="session", autouse=True)
def cache_in_memory() -> Iterator[None]:
    """Sign-in attempts are counted in memory, as no Redis runs in most tests.

    Set once: each change of this setting leaves a variable behind in the process's context, and asgiref carries all of
    them along whenever it goes from a thread to the event loop or back. After some thousand tests a request took ten
    times as long.
    """
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        yield


@pytest.fixture(autouse=True)
def attempts_from_nought(cache_in_memory: None) -> None:
    """No test knows of the attempts in another one."""
    cache.clear()


@pytest.fixture(autouse=True)
def wrong_keys_from_nought() -> None:
    """Nor of the wrong keys, although tests share a process and an address."""
    BRAKE._records.clear()


@pytest.fixture(autouse=True)
def no_connection_left() -> Iterator[None]:
    """Close what coroutines opened: the thread in which asgiref runs their queries outlives the test.

    PostgreSQL drops no database to which somebody is connected.
    """
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """Hashing a password takes no second here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


class ApiClient:
    """A management client that sends JSON and one person's management key."""

    def __init__(self, key: str = "") -> None:
        self.client = Client(headers={"Authorization": f"Bearer {key}"} if key else None)

    def __call__(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Send a request; ``body`` is JSON unless it is bytes."""
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
            options.setdefault("content_type", "application/json")
        return self.client.generic(method, f"/api/v1/{path}", **options)


@pytest.fixture
def api_of() -> Callable[[User], ApiClient]:
    """Return a function that makes a client for a person."""
    return lambda user: ApiClient(make_key(user, KeyKind.MANAGEMENT))


@pytest.fixture
def api(admin: User, api_of: Callable[[User], ApiClient]) -> ApiClient:
    """The administrator's client."""
    return api_of(admin)


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any) -> None:
    """Pages name the source files: nothing is collected, so there is no manifest of hashed names."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
