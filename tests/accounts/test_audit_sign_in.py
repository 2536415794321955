"""Sign-ins in the audit: successes, failures, and never what somebody typed for a name."""

from __future__ import annotations

import pytest
from django.contrib.auth import authenticate
from django.test import Client, RequestFactory

from accounts.domain import audit_sign_in
from accounts.enums import Role
from accounts.models import AuditEntry, User
from tests.factories import make_user

PASSWORD = "correct horse battery"


@pytest.fixture
def user(db: None) -> User:
    user = make_user("ada", Role.ADMIN)
    user.set_password(PASSWORD)
    user.save()
    return user


def test_signing_in_and_out_leave_entries(user: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.9")

    assert client.login(username="ada", password=PASSWORD)
    client.post("/logout/")

    actions = list(AuditEntry.objects.order_by("id").values_list("action", "actor", "target_label"))
    assert actions == [("session.sign_in", "user:ada", "ada"), ("session.sign_out", "user:ada", "ada")]
    assert AuditEntry.objects.latest("id").client_address == "192.0.2.9"


def test_a_failure_names_the_person_whose_name_was_tried(user: User) -> None:
    authenticate(RequestFactory().post("/login/"), username="ada", password="wrong")

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.user) == ("session.sign_in_failed", "anonymous", None)
    assert (entry.target_type, entry.target_label) == ("user", "ada")


@pytest.mark.parametrize("name", ["ADA", "Ada", "a\0da"])
def test_a_failure_names_the_person_in_whatever_case_the_name_is(user: User, name: str) -> None:
    """People sign in by it in any case, so guesses do not hide behind another."""
    audit_sign_in.record_failed_sign_in(name)
    assert AuditEntry.objects.get().target_label == "ada"


@pytest.mark.parametrize("name", ["my secret password", "a\0b", "", "x" * 1000])
def test_a_name_that_nobody_has_is_not_kept(user: User, name: str) -> None:
    audit_sign_in.record_failed_sign_in(name)

    entry = AuditEntry.objects.get()
    assert (entry.target_type, entry.target_label, entry.after) == ("", "", None)


def test_failures_are_bounded(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_sign_in, "FAILURES_A_MINUTE", 3)

    kept = [audit_sign_in.record_failed_sign_in("ada") for _ in range(5)]

    assert kept == [True, True, True, False, False]
    assert AuditEntry.objects.count() == 3
    assert not audit_sign_in.record_failed_code(user, is_signed_in=False)
