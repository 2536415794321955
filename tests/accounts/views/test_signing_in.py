"""Signing in, signing out, and the first administrator."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from accounts.domain.setup import create_admin, create_first_admin, make_setup_token
from accounts.enums import Role
from accounts.errors import SetupRefused
from accounts.models import User
from tests.factories import make_user

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Nothing is collected in these tests, so names of files carry no digest."""
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}


def test_people_sign_in_and_go_on_to_where_they_wanted() -> None:
    create_admin(username="ada", password=PASSWORD)
    client = Client()
    assert client.get("/login/").status_code == 200
    assert client.post("/login/", {"login": "ada", "password": "wrong"}).status_code == 422
    fields = {"login": "ada", "password": PASSWORD, "next": "/instances/x/"}
    assert client.post("/login/", fields).headers["Location"] == "/instances/x/"
    assert client.get("/login/").headers["Location"] == "/"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/").headers["Location"] == "/login/?next=/"


def test_nobody_is_sent_to_another_site() -> None:
    create_admin(username="ada", password=PASSWORD)
    fields = {"login": "ada", "password": PASSWORD, "next": "https://evil.example/"}
    assert Client().post("/login/", fields).headers["Location"] == "/"


def test_an_inactive_person_does_not_get_in() -> None:
    create_admin(username="ada", password=PASSWORD)
    User.objects.update(is_active=False)
    answer = Client().post("/login/", {"login": "ada", "password": PASSWORD})
    assert answer.status_code == 403
    assert "deactivated" in answer.content.decode()
    assert not answer.wsgi_request.user.is_authenticated


def test_the_link_makes_the_first_administrator_once() -> None:
    client = Client()
    assert "no administrator yet" in client.get("/login/").content.decode()
    link = f"/setup/{make_setup_token()}/"
    assert client.get(link).status_code == 200
    fields = {"username": "ada", "password": PASSWORD, "password_again": PASSWORD}
    assert client.post(link, fields).headers["Location"] == "/"
    assert User.objects.get().is_admin
    assert client.get("/").status_code == 200
    refused = Client().get(link)
    assert refused.status_code == 403
    assert "set up already" in refused.content.decode()
    assert Client().post(link, {**fields, "username": "eve"}).status_code == 403


def test_people_who_registered_first_do_not_lock_the_first_administrator_out() -> None:
    make_user("early", Role.MEMBER)
    gone = make_user("gone", Role.ADMIN)
    gone.is_active = False
    gone.save()
    link = f"/setup/{make_setup_token()}/"
    assert "no administrator yet" in Client().get("/login/").content.decode()
    assert Client().get(link).status_code == 200
    fields = {"username": "ada", "password": PASSWORD, "password_again": PASSWORD}
    assert Client().post(link, fields).status_code == 302
    assert User.objects.get(username="ada").is_admin
    assert Client().get(link).status_code == 403


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"password": "short", "password_again": "short"}, "too short"),
        ({"password": "password123456", "password_again": "password1234567"}, "differ"),
        ({"username": "a b"}, "valid username"),
        ({"username": ""}, "required"),
        ({"username": "x" * 151}, "150"),
    ],
)
def test_what_will_not_do_is_said_at_its_field(fields: dict[str, str], sentence: str) -> None:
    sent = {"username": "ada", "password": PASSWORD, "password_again": PASSWORD, **fields}
    answer = Client().post(f"/setup/{make_setup_token()}/", sent)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "token", ["nonsense", "a:b:c", make_setup_token()[:-1]], ids=["no token", "no signature", "cut off"]
)
def test_a_wrong_link_makes_nobody(token: str) -> None:
    answer = Client().post(f"/setup/{token}/", {"username": "eve", "password": PASSWORD, "password_again": PASSWORD})
    assert answer.status_code == 403
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_several_who_send_the_set_up_link_at_once_one_becomes_administrator() -> None:
    token, barrier, refused = make_setup_token(), threading.Barrier(4), []

    def take(number: int) -> None:
        barrier.wait()
        try:
            create_first_admin(token=token, username=f"first{number}", password=PASSWORD)
        except SetupRefused:
            refused.append(number)
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (User.objects.filter(role=Role.ADMIN).count(), len(refused)) == (1, 3)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"x", "multipart/form-data"),
        (b"a=b", "application/x-www-form-urlencoded; charset=utf-16"),
        (b"&".join(b"a%d=1" % number for number in range(1500)), "application/x-www-form-urlencoded"),
    ],
)
def test_an_unknown_page_is_not_found_whatever_is_sent_to_it(body: bytes, kind: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("ada", Role.ADMIN))
    client.get("/profile/")
    answer = client.generic("POST", "/nothing/", body, content_type=kind)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/health"), ("TRACE", "/readyz"), ("DELETE", "/login/")])
def test_a_wrong_method_is_answered_with_the_right_ones(method: str, path: str) -> None:
    answer = Client().generic(method, path)
    assert answer.status_code == 405
    assert answer.content.decode() == f"{method} can't be used here. Use {answer.headers['Allow']}.\n"
