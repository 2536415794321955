"""Signing in by OpenID Connect in a real browser: a provider at another host, with its own form, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.accounts.signin.provider import run_provider
from tests.e2e.conftest import OpenPage
from tests.system.stack import Stack


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of a running provider."""
    with run_provider() as address:
        yield address


@pytest.fixture(scope="module")
def live_corral(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Corral that lets people in by the provider, and makes operators of its staff."""
    provider = {
        "id": "acme", "name": "Acme", "server_url": issuer, "client_id": "corral", "client_secret": "hush",
        "roles": {"staff": "operator"}, "default_role": None,
    }  # fmt: skip
    stack = Stack(tmp_path_factory.mktemp("corral-oidc"), oidc_providers=json.dumps([provider]))
    stack.up()
    yield stack
    stack.down()
    stack.api.close()


@pytest.fixture
def stranger(open_page: OpenPage, corral: Stack) -> Page:
    """A browser in which nobody is signed in, at a host that isn't the provider's: cookies mind hosts, not ports."""
    page = open_page(signed_in=False, base_url=f"http://localhost:{corral.port}")

    def answer_nothing(route: Route) -> None:
        route.fulfill(status=200, body="", content_type="text/css")

    page.route(re.compile(r"^https://"), answer_nothing)  # the provider's page wants a stylesheet from the internet
    return page


def come(page: Page, issuer: str, subject: str, **claims: object) -> None:
    """Sign in by the provider as this subject, from the page that is open."""
    httpx.put(f"{issuer}/users/{subject}", json={"sub": subject, **claims}).raise_for_status()
    page.get_by_role("link", name="Sign in with Acme").click()
    expect(page.get_by_role("heading", name="Authorize Client")).to_be_visible()
    assert page.url.startswith(issuer)
    page.get_by_placeholder("sub").fill(subject)
    page.get_by_role("button", name="Authorize").click()


def test_a_person_comes_by_a_provider_to_the_page_they_wanted_and_leaves(
    stranger: Page, corral: Stack, issuer: str
) -> None:
    page = stranger
    page.goto("/keys/")  # which asks to sign in first

    come(page, issuer, "s1", preferred_username="anna", groups=["staff"])

    expect(page).to_have_url(f"http://localhost:{corral.port}/keys/")
    expect(page.locator("summary", has_text="anna")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("link", name="New instance").first).to_be_visible()  # an operator
    page.locator("summary", has_text="anna").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_url(re.compile(r"/login/$"))
    page.goto("/keys/")
    assert urlsplit(page.url).path == "/login/"


def test_whom_the_provider_knows_but_corral_lets_not_in_is_told_so(stranger: Page, issuer: str) -> None:
    stranger.goto("/login/")
    come(stranger, issuer, "s2", preferred_username="eve", groups=["others"])
    expect(stranger.get_by_text("The provider knows you, but none of your groups")).to_be_visible()


def test_who_declines_at_the_provider_is_back_and_not_signed_in(stranger: Page, corral: Stack, issuer: str) -> None:
    page = stranger
    page.goto("/login/")
    page.get_by_role("link", name="Sign in with Acme").click()
    page.get_by_role("button", name="Deny").click()
    page.wait_for_url(f"http://localhost:{corral.port}/**")
    page.goto("/keys/")
    assert urlsplit(page.url).path == "/login/"
