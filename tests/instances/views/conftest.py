"""Clients of the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User

PLAIN_STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Nothing is collected in these tests, so names of files carry no digest."""
    settings.STORAGES = PLAIN_STORAGES


@pytest.fixture
def client_of() -> Callable[[User], Client]:
    """Return a function that makes a signed-in client; a view that raises fails the test."""

    def make(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def client(admin: User, client_of: Callable[[User], Client]) -> Client:
    """The administrator's client."""
    return client_of(admin)
