"""Signing in with a passkey and an authenticator app, and the pages about people, in a real browser."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.accounts.signin.codes import compute_code
from tests.e2e.conftest import OpenPage
from tests.system.stack import Stack

NEW_PASSWORD = "quite another password"


def add_authenticator(page: Page) -> None:
    """Give the page's browser a device that keeps passkeys and knows its person (WebAuthn's virtual authenticator)."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def invite(page: Page, name: str, *, role: str = "member") -> str:
    """Invite somebody as the administrator and return the path of the link."""
    page.goto("/people/")
    page.get_by_label("For whom").fill(name)
    page.locator("#invite select[name=role]").select_option(role)
    page.get_by_role("button", name="Make a link").click()
    return urlsplit(page.locator("#invitation-link").inner_text()).path


def accept(page: Page, link: str, name: str) -> None:
    """Make the account that an invitation gives."""
    page.goto(link)
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
    page.get_by_label("Password, once more").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Make my account").click()
    expect(page.locator("summary", has_text=name)).to_be_visible()


def confirm(page: Page) -> None:
    """Say again who one is."""
    page.get_by_label("Password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Go on").click()


def sign_out(page: Page, name: str) -> None:
    """Sign out by the menu."""
    page.locator("summary", has_text=name).click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_url(re.compile(r"/login/$"))


def test_a_person_who_was_invited_signs_in_with_a_passkey(open_page: OpenPage, corral: Stack) -> None:
    link = invite(open_page(), "Pia")
    page = open_page(signed_in=False, base_url=f"http://localhost:{corral.port}")  # passkeys need a host name
    add_authenticator(page)
    accept(page, link, "pia")
    page.goto("/profile/")
    page.get_by_role("link", name="Add a passkey").click()
    confirm(page)
    page.get_by_label("Name").fill("My laptop")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator("#recovery-codes")).to_be_visible()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("My laptop")).to_be_visible()
    sign_out(page, "pia")

    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_url(re.compile(r":\d+/$"))
    expect(page.locator("summary", has_text="pia")).to_be_visible()
    sign_out(page, "pia")

    page.get_by_label("User name").fill("pia")
    page.get_by_label("Password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/login/code/$"))
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.locator("summary", has_text="pia")).to_be_visible()


def test_a_browser_without_the_passkey_is_told_so(open_page: OpenPage, corral: Stack) -> None:
    page = open_page(signed_in=False)  # an address without a name has no passkeys
    page.goto("/login/")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.locator("[data-passkey-fault]")).to_be_visible()


def test_an_authenticator_app_is_added_by_its_picture_or_secret(open_page: OpenPage) -> None:
    link = invite(open_page(), "Tom")
    page = open_page(signed_in=False)
    accept(page, link, "tom")
    page.goto("/profile/")
    page.get_by_role("link", name="Add an app").click()
    confirm(page)
    picture = page.get_by_alt_text("QR code with the secret below")
    assert picture.evaluate("(e) => e.complete && e.naturalWidth > 0")
    page.get_by_label("Code").fill(compute_code(page.locator("#totp-secret").inner_text()))
    page.get_by_role("button", name="Add it").click()
    codes = page.locator("#recovery-codes").inner_text().split()
    page.get_by_role("link", name="I have kept them").click()
    sign_out(page, "tom")
    page.get_by_label("User name").fill("tom")
    page.get_by_label("Password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("This code is wrong or was used already")
    page.get_by_label("Code").fill(codes[3])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator("summary", has_text="tom")).to_be_visible()


def test_who_is_deactivated_is_out_while_looking(open_page: OpenPage, corral: Stack) -> None:
    boss = open_page()
    link = invite(boss, "Eve")
    page = open_page(signed_in=False)
    accept(page, link, "eve")
    boss.goto("/people/?q=eve")
    boss.get_by_role("link", name="Change eve").click()
    boss.get_by_role("button", name="Deactivate").click()
    expect(boss.get_by_text("Deactivated", exact=True)).to_be_visible()
    page.reload()
    expect(page).to_have_url(re.compile(r"/login/"))
    page.get_by_label("User name").fill("eve")
    page.get_by_label("Password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="This account is deactivated")).to_be_visible()


PAGES = ("/people/", "/people/1/", "/teams/", "/profile/", "/login/confirm/", "/register/")


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_about_people_fit_and_name_their_controls(open_page: OpenPage, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 844})
    for path in PAGES:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a[href], input, select, textarea, summary')]
                .filter((e) => e.type !== "hidden" && !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
                .map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], path
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), path
