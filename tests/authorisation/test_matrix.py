"""Who may do what: every address with every method, for each kind of caller, as docs/authorisation.md has it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.authorisation.routes import (
    BODIES,
    Address,
    all_addresses,
    is_admin_site,
    list_calls,
    socket_addresses,
)
from tests.authorisation.table import ANY, CALLERS, PAGE, Call, read_table, write_row
from tests.authorisation.world import Answer, Portal

pytestmark = pytest.mark.timeout(1800)  # hundreds of calls in one test

TABLE = read_table()
ADDRESSES = [address for address in all_addresses() if not is_admin_site(address.route)]
ADMIN_SITE = [address for address in all_addresses() if is_admin_site(address.route)]
NOT_SERVED = "405"
FOREIGN = [(b"origin", b"https://elsewhere.example")]
PAGES = ("content-security-policy", "x-frame-options", "referrer-policy", "permissions-policy")
"""Headers of what a browser may show."""


def body_of(call: Call, address: Address) -> object:
    """What is sent with a call."""
    if str(call) in BODIES:
        return BODIES[str(call)]
    is_model_call = bool(address.methods) and call.method not in ("GET", "DELETE")
    return {"model": "alpha"} if is_model_call else None


async def ask(portal: Portal, call: Call, address: Address, caller: str, **options: Any) -> Answer:
    """Send a call of the table, a change on a page as a script sends it: only then a refusal is told by its status."""
    if call.method != "GET" and not address.methods and not call.route.startswith("/api/"):
        options["add"] = [*options.get("add", []), (b"hx-request", b"true")]
    await portal.freshen()
    path = address.path_for(call.method, portal.ids)
    return await portal.ask(call.method, path, caller, body_of(call, address), **options)


async def measure(portal: Portal, call: Call, address: Address) -> dict[str, str]:
    """Ask as each caller."""
    return {caller: (await ask(portal, call, address, caller)).outcome for caller in CALLERS}


def explain_missing(call: Call, cells: dict[str, str]) -> str:
    """Say what to add for a call without a row."""
    return (
        f"{call} has no row in docs/{PAGE.name}. If these are the answers that each kind of caller shall get, "
        f"add it (or its name to a row with the same answers):\n{write_row([call], cells)}"
    )


def pick(addresses: list[Address], part: int) -> list[Address]:
    """Every fourth address, so that processes share the work."""
    return addresses[part::4]


@pytest.mark.parametrize("part", range(4))
async def test_each_caller_is_answered_as_the_table_says(portal: Portal, part: int) -> None:
    faults = []
    for address in pick(ADDRESSES, part):
        for call in list_calls(address):
            expected = TABLE.get(call)
            if expected is None:
                answer = await ask(portal, call, address, "admin")
                if answer.outcome != NOT_SERVED:
                    faults.append(explain_missing(call, await measure(portal, call, address)))
                continue
            found = await measure(portal, call, address)
            faults += [
                f"{call} answers {found[caller]} to {caller}, not {expected[caller]}"
                for caller in CALLERS
                if found[caller] != expected[caller] and (expected[caller] != ANY or found[caller].startswith("5"))
            ]
    assert not faults, "\n".join(faults)


def test_the_table_has_no_row_for_what_is_not_there() -> None:
    known = {call for address in (*ADDRESSES, *socket_addresses()) for call in list_calls(address)}
    assert not {str(call) for call in TABLE if call not in known and not is_admin_site(call.route)}


async def test_each_caller_opens_the_sockets_that_the_table_says(portal: Portal) -> None:
    faults = []
    for address in socket_addresses():
        (call,) = list_calls(address)
        expected = TABLE.get(call)
        path = address.path_for("GET", {})
        # Silence means that the socket stays open, so who should be refused is given time for it.
        patience = {caller: 2 if expected is None or expected[caller] == "open" else 30 for caller in CALLERS}
        await portal.freshen()
        answers = await asyncio.gather(*(portal.knock(path, caller, patience_s=patience[caller]) for caller in CALLERS))
        found = dict(zip(CALLERS, answers, strict=True))
        if expected is None:
            faults.append(explain_missing(call, found))
            continue
        faults += [
            f"{call} answers {found[caller]} to {caller}, not {expected[caller]}"
            for caller in CALLERS
            if found[caller] != expected[caller]
        ]
    assert not faults, "\n".join(faults)


async def test_the_admin_site_is_for_administrators_alone(portal: Portal) -> None:
    """One row stands for all its pages; each of them is asked here. What it shows to administrators is Django's."""
    expected = {call.method: cells for call, cells in TABLE.items() if call.route == "/admin/{…}"}
    assert set(expected) == {"GET", "POST"}
    public = {"/admin/login", "/admin/logout", "/admin/jsi18n"}
    faults = []
    for address in ADMIN_SITE:
        if address.route in public:
            continue
        for method, cells in expected.items():
            call = Call(method, address.route)
            for caller in ("anonymous", "manage", "operator", "management key", "admin"):
                outcome = (await ask(portal, call, address, caller)).outcome
                if outcome != cells[caller] and (cells[caller] != ANY or outcome.startswith("5") or outcome == "login"):
                    faults.append(f"{call} answers {outcome} to {caller}, not {cells[caller]}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("part", range(4))
async def test_no_other_site_changes_anything_with_a_visitors_session(portal: Portal, part: int) -> None:
    """Every change that an administrator's page can make, sent without the page's token or from another origin."""
    faults = []
    forged = {"no token": {"drop": (b"x-csrftoken",)}, "another origin": {"drop": (b"origin",), "add": FOREIGN}}
    for address in pick([*ADDRESSES, *ADMIN_SITE], part):
        for call in list_calls(address):
            is_django = not address.methods
            if call.method == "GET" or (call not in TABLE and not is_admin_site(call.route)):
                continue
            for name, changes in forged.items():
                if name == "no token" and not is_django:
                    continue  # the gateway goes by the origin
                answer = await ask(portal, call, address, "admin", **changes)
                if answer.status not in (401, 403, 405):
                    faults.append(f"{call} with {name} answers {answer.status}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("part", range(4))
async def test_every_answer_to_a_browser_says_what_it_may_be_used_for(portal: Portal, part: int) -> None:
    faults = []
    for address in pick([*ADDRESSES, *ADMIN_SITE], part):
        for caller in ("anonymous", "admin"):
            navigation = [(b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")]
            answer = await ask(portal, Call("GET", address.route), address, caller, add=navigation)
            headers = answer.headers
            missing = {name for name in (*PAGES, "x-content-type-options") if name not in headers}
            if missing:
                faults.append(f"GET {address.route} answers {answer.status} to {caller} without {sorted(missing)}")
            cookies = headers.get("set-cookie", "")
            if "sessionid" in cookies and not ("HttpOnly" in cookies and "SameSite=Lax" in cookies):
                faults.append(f"GET {address.route} sets {cookies}")
    assert not faults, "\n".join(faults)
