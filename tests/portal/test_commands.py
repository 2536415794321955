"""The ``corral`` command and the commands that make people and keys."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.domain.actors import console_actor
from accounts.domain.keys import find_key
from accounts.domain.teams import create_team
from accounts.enums import KeyKind, Role
from accounts.models import User
from portal import __version__
from portal.cli import COMMANDS, DJANGO_COMMANDS, main
from tests.factories import make_instance, make_user

PASSWORD = "correct horse battery"


@pytest.fixture
def type_line(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a line on standard input."""
    return lambda line: monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"corral {__version__}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in [*COMMANDS, *DJANGO_COMMANDS])


def test_a_bad_setting_ends_a_part_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRAL_PORT", "http")
    assert main(["web"]) == 1
    assert capsys.readouterr().err.startswith("corral: CORRAL_PORT must be a whole number")


def test_a_user_is_made_with_a_role(db: None, type_line: Any) -> None:
    type_line(PASSWORD)
    call_command("createuser", "anna", "--role", "operator", stdout=io.StringIO())
    user = User.objects.get(username="anna")
    assert user.role == Role.OPERATOR
    assert user.check_password(PASSWORD)


def test_a_weak_password_makes_no_user(db: None, type_line: Any) -> None:
    type_line("12345")
    with pytest.raises(CommandError, match="too short"):
        call_command("createuser", "anna")
    assert not User.objects.exists()


def test_a_name_that_is_taken_is_refused(db: None, type_line: Any) -> None:
    make_user("anna", Role.MEMBER)
    type_line(PASSWORD)
    with pytest.raises(CommandError, match="already exists"):
        call_command("createuser", "anna")


def test_an_empty_password_is_refused(db: None, type_line: Any) -> None:
    type_line("")
    with pytest.raises(CommandError, match="No password"):
        call_command("createuser", "anna")


def test_a_password_is_replaced(db: None, type_line: Any) -> None:
    user = make_user("anna", Role.MEMBER)
    type_line(PASSWORD)
    call_command("resetpassword", "anna", stdout=io.StringIO())
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


@pytest.mark.parametrize("words", [["resetpassword", "nobody"], ["createkey", "ci", "--user", "nobody"]])
def test_an_unknown_user_is_named(db: None, words: list[str]) -> None:
    with pytest.raises(CommandError, match="no user nobody"):
        call_command(*words)


def test_a_key_is_printed_alone_on_standard_output(db: None) -> None:
    user = make_user("anna", Role.MEMBER)
    out, err = io.StringIO(), io.StringIO()
    call_command("createkey", "ci", "--user", "anna", "--kind", "management", "--days", "3", stdout=out, stderr=err)
    key = find_key(out.getvalue().strip())
    assert key is not None
    assert (key.user, key.kind, key.name) == (user, KeyKind.MANAGEMENT, "ci")
    assert key.expires_at is not None
    assert "shown this once" in err.getvalue()


@pytest.mark.parametrize("days", ["0", "-1", "999999999999"])
def test_a_key_must_end_in_the_future(db: None, days: str) -> None:
    make_user("anna", Role.MEMBER)
    with pytest.raises(CommandError):
        call_command("createkey", "ci", "--user", "anna", f"--days={days}")


def test_a_key_of_llamactl_is_taken_over_from_standard_input(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user("anna", Role.MEMBER)
    plain = "llamactl-mgmt-" + "a" * 64
    monkeypatch.setattr("sys.stdin", io.StringIO(plain + "\n"))
    out, err = io.StringIO(), io.StringIO()
    call_command("createkey", "old", "--user", "anna", "--import", stdout=out, stderr=err)
    key = find_key(plain)
    assert key is not None
    assert (key.kind, key.user.get_username(), out.getvalue()) == (KeyKind.MANAGEMENT, "anna", "")
    assert plain not in err.getvalue()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="key: 16 to 256 printable"):
        call_command("createkey", "old", "--user", "anna", "--import")


def test_a_key_for_chosen_instances_names_them(db: None) -> None:
    make_user("anna", Role.OPERATOR)
    instance = make_instance("alpha")
    out = io.StringIO()
    words = ["createkey", "ci", "--user", "anna", "--instance"]
    call_command(*words, "alpha", stdout=out, stderr=io.StringIO())
    key = find_key(out.getvalue().strip())
    assert key is not None
    assert list(key.permissions.values_list("instance_id", flat=True)) == [instance.pk]
    with pytest.raises(CommandError, match="no instance beta"):
        call_command(*words, "beta")


def test_a_password_is_made_and_printed_alone(db: None) -> None:
    create_team(actor=console_actor(), name="red")
    out, err = io.StringIO(), io.StringIO()
    call_command(
        "createuser", "anna", "--team", "red", "--email", "a@example.org", "--generate", stdout=out, stderr=err
    )
    anna = User.objects.get()
    assert anna.check_password(out.getvalue().rstrip("\n"))
    assert [group.name for group in anna.groups.all()] == ["red"]
    assert anna.email == "a@example.org"
    again = io.StringIO()
    call_command("resetpassword", "anna", "--generate", "--remove-second-factors", stdout=again, stderr=err)
    anna.refresh_from_db()
    assert anna.check_password(again.getvalue().rstrip("\n"))
    assert again.getvalue() != out.getvalue()


def test_an_unknown_team_makes_no_user(db: None) -> None:
    with pytest.raises(CommandError, match="There is no team red"):
        call_command("createuser", "anna", "--team", "red", "--generate")
    assert not User.objects.exists()
