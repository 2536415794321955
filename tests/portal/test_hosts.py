"""What is said of a request for a host that can't be."""

from __future__ import annotations

import copy
import io
import logging
import logging.config
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import User

HOST = "evil.example/<script>" + "x" * 3000


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What Corral's own configuration of the log writes to standard error while this test runs."""
    written = io.StringIO()
    configuration = copy.deepcopy(settings.LOGGING)
    configuration["handlers"]["stderr"]["stream"] = written
    logger = logging.getLogger("django.security.DisallowedHost")
    before = (logging.root.handlers[:], logging.root.level, logger.filters[:])
    logging.config.dictConfig(configuration)
    yield written
    logging.root.handlers, logging.root.level, logger.filters = before


@pytest.mark.parametrize("path", ["/instances/", "/api/v1/instances", "/login/"])
def test_a_host_that_cannot_be_is_one_line_of_the_log_and_an_answer(admin: User, log: io.StringIO, path: str) -> None:
    """There was a traceback in the log for each."""
    client = Client()
    client.force_login(admin)
    answer = client.get(path, headers={"host": HOST})
    assert answer.status_code == 400
    assert answer.content
    assert b"evil.example" not in answer.content
    (line,) = log.getvalue().splitlines()
    assert "WARNING django.security.DisallowedHost: refused a request for 'evil.example/<script>" in line
    assert len(line) < 300
