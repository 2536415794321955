"""Which part of the application answers what, under ``corral web`` and under daphne."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.portal.corral import Corral
from tests.system.stack import ROOT, free_port, poll

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def daphne(running: Corral, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """The same installation served by daphne, which has no lifespan protocol."""
    corral = Corral(tmp_path_factory.mktemp("daphne"))
    corral.port = free_port()
    log = corral.folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("daphne")), "-p", str(corral.port), "portal.asgi:application"],
            cwd=ROOT,
            env={**running.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    poll(lambda: process.poll() is not None or answers(corral), what="daphne answers")
    assert process.poll() is None, log.read_text()
    yield corral
    process.terminate()
    process.wait(20)


def answers(corral: Corral) -> bool:
    """Whether somebody listens on the port."""
    try:
        return corral.get("/health")[0] == 200
    except OSError:
        return False


@pytest.fixture(params=["running", "daphne"])
def served(request: pytest.FixtureRequest) -> Corral:
    """The application under either server."""
    return request.getfixturevalue(request.param)


def test_the_gateway_answers_inference_routes(served: Corral) -> None:
    status, body = served.get("/v1/models")
    assert status == 401
    assert json.loads(body)["error"]["type"]


def test_django_answers_management_routes_and_pages(served: Corral) -> None:
    assert served.get("/api/v1/instances")[0] == 401
    status, body = served.get("/admin/login/")
    assert status == 200
    assert b"/static/css/portal." in body  # the admin site has Corral's own sign-in


def test_collected_files_are_served(served: Corral) -> None:
    status, body = served.get("/static/admin/css/base.css")
    assert (status, body) == (200, (ROOT_OF_ADMIN / "base.css").read_bytes())


def test_the_log_application_answers_followers(served: Corral) -> None:
    status, body = served.get("/api/v1/instances/llama/logs?follow=true")
    assert status == 401
    assert json.loads(body)["error"]


def test_an_unknown_page_is_not_found(served: Corral) -> None:
    assert served.get("/no/such/page")[0] == 404


def find_admin_styles() -> Path:
    """Return the admin's folder of style sheets inside Django."""
    import django

    return Path(django.__file__).parent / "contrib" / "admin" / "static" / "admin" / "css"


ROOT_OF_ADMIN = find_admin_styles()
