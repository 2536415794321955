"""The list and the page of one instance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from instances.domain.groups import Group
from instances.models import Node
from tests.factories import OPTIONS, make_instance, make_node, make_ready

HTMX = {"HX-Request": "true"}


def part(client: Client, path: str, target: str) -> str:
    answer = client.get(path, headers={**HTMX, "HX-Target": target})
    assert answer.status_code == 200
    assert answer.headers["Corral-Fragment"] == "true"
    return str(answer.content.decode())


@pytest.mark.parametrize("path", ["/", "/instances/", "/instances"])
def test_the_list_has_two_addresses(client: Client, path: str) -> None:
    assert "No instances yet" in client.get(path).content.decode()


def test_the_list_costs_the_same_number_of_queries_whatever_its_length(
    member: User, client_of: Callable[[User], Client]
) -> None:
    client = client_of(member)
    counts = []
    for names in (["a"], ["b", "c"]):
        for name in names:
            make_instance(name, owner=member)
        with CaptureQueriesContext(connection) as queries:
            client.get("/")
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("query", ["?state=nonsense", "?sort=nonsense", "?q=%00", "?q=" + "x " * 200, "?q=%25_'\"<b>"])
def test_odd_queries_are_harmless(client: Client, query: str) -> None:
    make_instance("alpha")
    assert client.get(f"/{query}").status_code == 200


@pytest.mark.parametrize("order", ["name", "state", "used", "created", "engine", "group"])
def test_every_order_shows_everything(client: Client, order: str) -> None:
    for name in ("a", "b"):
        make_instance(name)
    assert len(client.get(f"/?sort={order}").context["cards"]) == 2


def test_parts_are_parts_and_pages_are_pages(client: Client) -> None:
    make_ready("alpha")
    assert "<html" in client.get("/").content.decode()
    assert "<html" not in part(client, "/", "instance-list")
    status = part(client, "/instances/alpha/", "status")
    assert "<html" not in status
    assert "pid 4711" in status
    assert 'id="history"' not in status
    assert 'id="status"' not in part(client, "/instances/alpha/", "history")


def test_a_page_of_a_deleted_instance_leads_back_to_the_list(client: Client) -> None:
    assert client.get("/instances/gone/", headers={**HTMX, "HX-Target": "history"}).status_code == 204
    answer = client.get("/instances/gone/", headers={**HTMX, "HX-Target": "status"})
    assert answer.headers["HX-Redirect"] == "/"
    assert "gone is not there any more." in client.get("/").content.decode()
    assert client.get("/instances/gone/").status_code == 404


@pytest.mark.parametrize("name", ["..", ".", "a b", "x" * 51, "ä"])
def test_impossible_names_are_not_found(client: Client, name: str) -> None:
    assert client.get(f"/instances/{name}/").status_code in (302, 404)


def test_the_page_masks_secrets_and_the_export_has_them(client: Client) -> None:
    options = {"backend_options": {"api_key": "hush-key", "model": "m"}, "environment": {"HF_TOKEN": "hush-token"}}
    make_instance("alpha", options=options)
    assert "hush" not in client.get("/instances/alpha/").content.decode()
    answer = client.get("/instances/alpha/export/")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="alpha.json"'
    exported = json.loads(answer.content)
    assert exported["name"] == "alpha"
    assert exported["options"]["environment"] == {"HF_TOKEN": "hush-token"}


def test_reasons_are_text(client: Client) -> None:
    make_instance("alpha", state="failed", reason="<script>alert(1)</script>\nsecond line")
    for path in ("/", "/instances/alpha/"):
        content = client.get(path).content.decode()
        assert "<script>alert(1)" not in content
        assert "&lt;script&gt;alert(1)" in content


def test_the_list_names_the_cause_of_a_failure(client: Client) -> None:
    reason = "The engine ended with exit code 1.\nIts last log lines:\nerror: no such tensor\nleaving"
    make_instance("alpha", state="failed", reason=reason)
    content = client.get("/").content.decode()
    assert 'title="The engine ended with exit code 1.\nerror: no such tensor"' in content


def test_an_unknown_engine_does_not_break_the_page(client: Client) -> None:
    make_instance("alpha", backend_type="future")
    assert client.get("/").status_code == 200
    assert client.get("/instances/alpha/").status_code == 200


def test_a_start_on_a_silent_node_says_so(client: Client) -> None:
    make_instance("alpha")
    answer = client.post("/instances/alpha/start/", headers=HTMX)
    assert answer.status_code == 503
    assert "does not answer" in answer.content.decode()


def test_a_disabled_instance_is_not_started(client: Client) -> None:
    make_node(alive=True)
    make_instance("alpha", disabled=True)
    answer = client.post("/instances/alpha/start/", headers=HTMX)
    assert answer.status_code == 409
    assert "alpha is disabled" in answer.content.decode()
    assert "Start alpha" not in client.get("/").content.decode()


def test_without_scripts_an_error_stands_on_the_next_page(client: Client) -> None:
    make_instance("alpha")
    answer = client.post("/instances/alpha/start/")
    assert answer.headers["Location"] == "/instances/alpha/"
    assert "does not answer" in str(next(iter(get_messages(answer.wsgi_request))))


def test_an_action_on_what_is_gone_says_so(client: Client) -> None:
    assert client.post("/instances/gone/start/", headers=HTMX).status_code == 404
    assert client.post("/instances/gone/start/").headers["Location"] == "/"


def test_stopping_what_is_stopped_is_no_error(client: Client) -> None:
    make_instance("alpha")
    answer = client.post("/instances/alpha/stop/", headers=HTMX)
    assert answer.status_code == 200
    assert answer.headers["HX-Trigger"] == "corral:refresh"
    assert "alpha is stopped." in answer.content.decode()


def test_a_deleted_instance_is_gone(client: Client) -> None:
    make_instance("alpha")
    assert "Delete alpha?" in client.get("/instances/alpha/delete/").content.decode()
    answer = client.post("/instances/alpha/delete/", headers=HTMX)
    assert answer.headers["HX-Redirect"] == "/"
    assert client.get("/instances/alpha/").status_code == 404


def test_nodes_are_named_where_there_are_several(client: Client) -> None:
    make_instance("here")
    assert "main:" not in client.get("/").content.decode()
    make_instance("there", node=Node.objects.create(name="gpu-2"))
    assert "gpu-2:" in client.get("/").content.decode()


def facts(client: Client, name: str) -> dict[str, str]:
    """Return what the instance's page lists about it."""
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", client.get(f"/instances/{name}/").content.decode())
    return {term: re.sub(r"<[^>]+>", "", value) for term, value in found}


def test_the_page_tells_what_decides_when_it_stops_and_by_which_names_it_is_called(client: Client) -> None:
    options = {**OPTIONS, "ttl": 45, "priority": -3, "aliases": ["org/model:latest", "small"]}
    make_instance("alpha", options=options, group="big", pinned=True)
    shown = facts(client, "alpha")
    assert shown["When idle"] == "stops after 45 s"
    assert shown["Aliases"] == "org/model:latest, small"
    assert shown["Group"] == "big"
    assert shown["Priority"] == "-3"
    assert shown["Pinned"] == "yes: never stopped to make room"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"idle_timeout": 30}, "stops after 30 min"),
        ({"idle_timeout": 30, "ttl": -1}, "stops after 30 min"),
        ({"idle_timeout": 30, "ttl": 0}, "keeps running"),
        ({"idle_timeout": 0}, "keeps running"),
        ({"idle_timeout": 0, "ttl": 120}, "stops after 2 min"),
    ],
)
def test_the_page_names_the_time_that_counts(client: Client, options: dict[str, int], expected: str) -> None:
    make_instance("alpha", options={**OPTIONS, **options})
    shown = facts(client, "alpha")
    assert shown["When idle"] == expected
    assert (shown["Priority"], shown["Pinned"]) == ("0", "no")
    assert "Aliases" not in shown


def test_the_page_warns_of_a_group_that_is_not_defined(client: Client, change_settings: Callable[..., None]) -> None:
    make_instance("alpha", group="bgi")
    assert facts(client, "alpha")["Group"] == "bgi"
    change_settings(groups={"big": Group()})
    assert facts(client, "alpha")["Group"] == "bgi not defined"
    assert "The group bgi is not among CORRAL_GROUPS (big)" in client.get("/instances/alpha/").content.decode()
    change_settings(groups={"big": Group()}, group_limits={"bgi": 1})
    assert facts(client, "alpha")["Group"] == "bgi"
