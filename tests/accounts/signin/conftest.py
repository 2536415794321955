from __future__ import annotations

import pytest
from django.test import Client

from accounts.domain.setup import create_admin
from accounts.models import User

PASSWORD = "a long enough password"


@pytest.fixture
def ada(db: None) -> User:
    """An administrator with a password."""
    return create_admin(username="ada", password=PASSWORD)


@pytest.fixture
def browser(ada: User) -> Client:
    """A browser in which she has just signed in."""
    client = Client()
    assert client.post("/login/", {"login": "ada", "password": PASSWORD}).status_code == 302
    return client
