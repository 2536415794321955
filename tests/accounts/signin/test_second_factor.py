"""Authenticator apps and recovery codes, with codes computed as an app computes them (RFC 6238)."""

from __future__ import annotations

import base64
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.domain.actors import actor_for
from accounts.enums import Role
from accounts.errors import NotAllowed
from accounts.models import AuditEntry, User
from accounts.signin.second_factor import forget_second_factors
from tests.accounts.signin.codes import compute_code
from tests.accounts.signin.conftest import PASSWORD
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B."""
    assert compute_code(base64.b32encode(b"12345678901234567890").decode(), 59) == "287082"


def add_app(browser: Client) -> tuple[str, list[str]]:
    """Add an authenticator app; return its secret and the recovery codes."""
    asked = browser.get("/profile/app/")
    assert asked.headers["Location"] == "/login/confirm/?next=%2Fprofile%2Fapp%2F"
    confirmed = browser.post("/login/confirm/", {"password": PASSWORD, "next": "/profile/app/"})
    assert confirmed.headers["Location"] == "/profile/app/"
    page = browser.get("/profile/app/").content.decode()
    assert 'src="data:image/svg+xml;base64,' in page
    secret = re.search(r'id="totp-secret">([A-Z2-7]+)<', page)[1]
    assert browser.post("/profile/app/", {"code": "000000"}).status_code == 200
    added = browser.post("/profile/app/", {"code": compute_code(secret)})
    assert added.headers["Location"] == "/profile/recovery-codes/"
    shown = browser.get("/profile/recovery-codes/").content.decode()
    codes = re.search(r'id="recovery-codes">([\d\s]+)<', shown)[1].split()
    assert len(set(codes)) == 10
    return secret, codes


def begin(password: str = PASSWORD) -> Client:
    client = Client()
    answer = client.post("/login/", {"login": "ada", "password": password, "next": "/teams/"})
    assert answer.headers["Location"] == "/login/code/"
    return client


def is_in(client: Client) -> bool:
    return client.get("/profile/").status_code == 200


def test_a_password_alone_is_not_enough_any_more(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = add_app(browser)
    client = begin()
    assert not is_in(client)
    wrong = client.post("/login/code/", {"code": "123456"})
    assert "This code is wrong or was used already" in wrong.content.decode()
    assert not is_in(client)
    later = time.time() + 60  # a code counts once, so the next sign-in needs the next code
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time.time", lambda: later)
    answer = client.post("/login/code/", {"code": compute_code(secret, later)})
    assert answer.headers["Location"] == "/teams/"
    assert is_in(client)


def test_a_code_that_was_seen_is_worth_nothing(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = add_app(browser)
    later = time.time() + 60
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time.time", lambda: later)
    code = compute_code(secret, later)
    assert begin().post("/login/code/", {"code": code}).status_code == 302
    thief = begin()
    assert thief.post("/login/code/", {"code": code}).status_code == 200
    assert not is_in(thief)


def test_a_recovery_code_lets_in_once(browser: Client) -> None:
    _, codes = add_app(browser)
    client = begin()
    assert client.post("/login/code/", {"code": codes[0]}).headers["Location"] == "/teams/"
    assert is_in(client)
    assert "9 left" in client.get("/profile/").content.decode()
    thief = begin()
    assert thief.post("/login/code/", {"code": codes[0]}).status_code == 200
    assert not is_in(thief)
    assert begin().post("/login/code/", {"code": codes[1]}).status_code == 302


def test_recovery_codes_are_shown_once_and_new_ones_end_the_old(browser: Client) -> None:
    _, codes = add_app(browser)
    again = browser.get("/profile/recovery-codes/").content.decode()
    assert not [code for code in codes if code in again]
    assert browser.post("/profile/recovery-codes/new/").headers["Location"] == "/profile/recovery-codes/"
    fresh = browser.get("/profile/recovery-codes/").content.decode()
    assert not [code for code in codes if code in fresh]
    assert begin().post("/login/code/", {"code": codes[0]}).status_code == 200


def test_guesses_of_codes_are_counted(browser: Client) -> None:
    _, codes = add_app(browser)
    client = begin()
    for _ in range(5):
        client.post("/login/code/", {"code": "000000"})
    answer = client.post("/login/code/", {"code": codes[0]})
    assert "Too many" in answer.content.decode()
    assert not is_in(client)


def test_wrong_codes_are_in_the_audit_without_the_code(browser: Client) -> None:
    add_app(browser)
    begin().post("/login/code/", {"code": "123456"}, REMOTE_ADDR="192.0.2.9")
    browser.post("/login/confirm/code/", {"code": "654321"})
    signing_in, confirming = AuditEntry.objects.filter(action="session.code_failed").order_by("pk")
    assert (signing_in.actor, signing_in.target_label) == ("anonymous", "ada")
    assert signing_in.client_address == "192.0.2.9"
    assert (confirming.actor, confirming.target_label) == ("user:ada", "ada")
    entries = str(list(AuditEntry.objects.values()))
    assert "123456" not in entries
    assert "654321" not in entries


def test_secrets_are_not_in_the_database_as_they_are(browser: Client, ada: User) -> None:
    secret, codes = add_app(browser)
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    assert not [code for code in codes if code in stored]


def test_the_app_can_be_removed_after_confirming(browser: Client) -> None:
    add_app(browser)
    assert browser.post("/profile/app/remove/").headers["Location"] == "/profile/"
    client = Client()
    assert client.post("/login/", {"login": "ada", "password": PASSWORD}).headers["Location"] == "/"


def test_an_administrator_helps_who_has_lost_them(
    browser: Client, ada: User, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.events.publish", [].append)  # no Redis runs here
    with django_capture_on_commit_callbacks(execute=True):  # allauth says it then
        add_app(browser)
    boss = make_user("bea", Role.ADMIN)
    forget_second_factors(actor=actor_for(boss), user=ada)
    with pytest.raises(NotAllowed):
        forget_second_factors(actor=actor_for(make_user("eve")), user=boss)
    answer = Client().post("/login/", {"login": "ada", "password": PASSWORD})
    assert answer.headers["Location"] == "/"
    actions = AuditEntry.objects.filter(action__contains="second_factor").values_list("action", flat=True)
    assert sorted(actions) == ["user.add_second_factor"] * 2 + ["user.remove_second_factor"]


def test_an_administrator_confirms_who_they_are_before_removing_anothers(browser: Client, ada: User) -> None:
    """Whoever finds a page open can't take over a colleague by it."""
    eve = make_user("eve")
    Authenticator.objects.create(user=eve, type=Authenticator.Type.TOTP, data={"secret": "x"})
    path = f"/people/{eve.pk}/second-factors/remove/"
    asked = browser.post(path)
    assert asked.headers["Location"] == f"/login/confirm/?next={quote(path, safe='')}"
    browser.post("/login/confirm/", {"password": "wrong", "next": path})
    assert Authenticator.objects.filter(user=eve).exists()
    confirmed = browser.post("/login/confirm/", {"password": PASSWORD, "next": path})
    assert confirmed.headers["Location"] == f"/people/{eve.pk}/"
    assert not Authenticator.objects.filter(user=eve).exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_everybody_confirms_who_they_are_before_removing_their_own(
    browser: Client, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    add_app(browser)
    later = time.time() + 301
    monkeypatch.setattr("allauth.account.internal.flows.reauthentication.time.time", lambda: later)
    for path in ("/profile/app/remove/", "/profile/recovery-codes/new/", "/profile/passkeys/1/remove/"):
        assert getattr(browser, method)(path).headers["Location"].startswith("/login/confirm/?next=")
    assert Authenticator.objects.count() == 2


def test_the_admin_site_has_no_door_of_its_own(browser: Client) -> None:
    add_app(browser)
    client = Client()
    fields = {"username": "ada", "password": PASSWORD, "next": "/admin/"}
    assert client.post("/admin/login/", fields).headers["Location"].startswith("/login/?next=")
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("path", ["/profile/app/", "/profile/app/remove/", "/profile/recovery-codes/new/"])
def test_second_factors_are_for_who_is_signed_in(ada: User, path: str) -> None:
    assert Client().post(path).headers["Location"].startswith("/login/")


def test_what_people_do_to_themselves_is_found_among_what_was_done_to_users(
    browser: Client, django_capture_on_commit_callbacks: Any
) -> None:
    """The user of a request is a proxy, whose own type has another name."""
    with django_capture_on_commit_callbacks(execute=True):  # allauth says it then
        add_app(browser)
    fields = {"old_password": PASSWORD, "password": "another long password", "password_again": "another long password"}
    assert browser.post("/profile/password/", fields).status_code == 302
    done = AuditEntry.objects.exclude(action="session.sign_in").values_list("action", "target_type")
    assert {"user.add_second_factor", "user.set_password"} <= {action for action, _ in done}
    assert {kind for _, kind in done} == {"user"}
