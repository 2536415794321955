"""Attempts to sign in are counted for each account and each address, and none is made while nobody counts."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.accounts.signin.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def attempt(password: str, *, name: str = "ada", address: str = "192.0.2.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/login/", {"login": name, "password": password})


def test_an_account_takes_five_wrong_passwords_wherever_they_come_from(ada: User) -> None:
    for number in range(5):
        assert attempt("wrong", address=f"192.0.2.{number}").status_code == 422
    refused = attempt(PASSWORD, address="192.0.2.99")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "300"
    assert "Too many failed attempts" in refused.content.decode()


def test_one_address_gets_twenty_wrong_passwords_for_whatever_accounts(ada: User) -> None:
    for number in range(20):
        assert attempt("wrong", name=f"nobody{number}").status_code == 422
    assert attempt(PASSWORD).status_code == 429
    assert attempt(PASSWORD, address="192.0.2.2").status_code == 302


def test_the_right_password_does_not_count(ada: User) -> None:
    for _ in range(8):
        assert attempt(PASSWORD).status_code == 302


def test_one_address_opens_the_page_thirty_times_a_minute_at_most(ada: User) -> None:
    answers = [Client().post("/login/", {"login": "", "password": ""}).status_code for _ in range(31)]
    assert answers == [422] * 30 + [429]


def test_without_redis_nobody_guesses(ada: User, settings: Any) -> None:
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix:///nowhere/redis.sock"}
    settings.CACHES = {"default": backend}
    answer = attempt(PASSWORD)
    assert answer.status_code == 503
    assert "Redis does not answer" in answer.content.decode()
    assert Client().get("/login/").status_code == 200
