"""Passkeys that are refused: what no browser sends as well. The right ones are in tests/e2e/test_people.py."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEntry
from tests.accounts.signin.conftest import PASSWORD
from tests.accounts.signin.test_second_factor import add_app, begin

pytestmark = pytest.mark.django_db
UNKNOWN = "Corral does not know this passkey here."


def in_base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


CLIENT_DATA = {"type": "webauthn.get", "challenge": "abc", "origin": "http://testserver"}
ATTESTATION = b"\xa3cfmtdnonegattStmt\xa0hauthDataX\x25" + b"x" * 32 + b"\x41" + b"\0" * 4
CREDENTIAL: dict[str, Any] = {
    "id": in_base64(b"a"),
    "rawId": in_base64(b"a"),
    "type": "public-key",
    "response": {
        "clientDataJSON": in_base64(json.dumps(CLIENT_DATA).encode()),
        "authenticatorData": in_base64(b"x" * 32 + b"\x05" + b"\0" * 4),
        "attestationObject": in_base64(ATTESTATION),
        "signature": in_base64(b"s"),
        "userHandle": in_base64(b"1"),
    },
}
ODD_VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=60).map(in_base64),
    st.lists(st.none(), max_size=1),
)


@st.composite
def broken_credentials(draw: st.DrawFn) -> dict[str, Any]:
    """A credential in which some parts are missing or odd."""
    broken: dict[str, Any] = json.loads(json.dumps(CREDENTIAL))
    for part in draw(st.lists(st.sampled_from([*CREDENTIAL, *CREDENTIAL["response"]]), min_size=1, max_size=3)):
        place = broken.get("response") if part in CREDENTIAL["response"] else broken
        if not isinstance(place, dict):
            continue
        if draw(st.booleans()):
            place.pop(part, None)
        else:
            place[part] = draw(ODD_VALUES)
    return broken


def send(client: Client, path: str, credential: object) -> Any:
    return client.post(path, {"credential": json.dumps(credential)}, follow=True)


def failures() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.filter(action="session.passkey_failed").values_list("actor", "target_label"))


def test_a_refused_passkey_is_in_the_audit_and_the_page_says_so(browser: Client) -> None:
    add_app(browser)
    client = Client()
    client.get("/login/passkey/", headers={"x-requested-with": "XMLHttpRequest"})
    assert UNKNOWN in send(client, "/login/passkey/", CREDENTIAL).content.decode()
    client = begin()
    assert UNKNOWN in send(client, "/login/code/", CREDENTIAL).content.decode()
    assert failures() == [("anonymous", "ada"), ("anonymous", "")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credential=broken_credentials())
def test_what_no_browser_sends_is_refused_too(browser: Client, credential: dict[str, Any]) -> None:
    client = Client(REMOTE_ADDR="192.0.2.1")
    client.get("/login/passkey/", headers={"x-requested-with": "XMLHttpRequest"})
    answer = send(client, "/login/passkey/", credential)
    assert answer.status_code in (200, 429)
    browser.post("/login/confirm/", {"password": PASSWORD})
    assert browser.get("/profile/passkeys/add/").status_code == 200
    page = send(browser, "/profile/passkeys/add/", credential)
    assert page.status_code == 200
    assert "could not be added" in page.content.decode() or "This is no passkey." in page.content.decode()


A_MILLION_ZEROS = json.dumps(CREDENTIAL).replace(f'"signature": "{in_base64(b"s")}"', '"signature": 1000000')


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"x"', '{"id": 1}', "\0", "[" * 100_000, A_MILLION_ZEROS])
def test_what_is_no_credential_is_refused_too(browser: Client, text: str) -> None:
    add_app(browser)
    for client, path in (
        (Client(), "/login/passkey/"),
        (begin(), "/login/code/"),
        (browser, "/login/confirm/passkey/"),
    ):
        client.get(path, headers={"x-requested-with": "XMLHttpRequest"})
        assert client.post(path, {"credential": text}, follow=True).status_code == 200
