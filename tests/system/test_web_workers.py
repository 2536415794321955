"""Several web processes on one port."""

from __future__ import annotations

import signal
import time

import pytest

from portal.web import GRACE_S
from tests.system.conftest import StackFactory

pytestmark = pytest.mark.any_database


def test_a_followed_log_ends_properly_and_at_once_when_corral_stops(make_corral: StackFactory) -> None:
    corral = make_corral(web_workers="2")
    corral.run_now("chatty", flags={"lines_per_second": 5})
    with corral.api.stream("GET", "/api/v1/instances/chatty/logs", params={"follow": "true"}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert corral.process is not None
        began = time.monotonic()
        corral.process.send_signal(signal.SIGINT)
        for _ in pieces:  # raises when the stream breaks off
            pass
        assert time.monotonic() - began < GRACE_S / 2
    corral.process.wait(60)
