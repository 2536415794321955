"""Giving ports to engines."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from instances.domain.ports import allocate_port, claim_port, is_port_free
from instances.errors import PortTaken
from tests.factories import make_instance, make_node, make_run


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def held_port(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_another_program_listens_on_is_not_free(held_port: int) -> None:
    assert not is_port_free(held_port)


def test_automatic_ports_leave_out_what_the_system_holds(db: None, change_settings: Any, held_port: int) -> None:
    """llamactl 11.2-35: the operating system was never asked."""
    node = make_node()
    change_settings(port_range=f"{held_port}-{min(held_port + 20, 65535)}")

    assert allocate_port(node=node) > held_port


def test_a_fixed_port_another_program_listens_on_is_refused(db: None, change_settings: Any, held_port: int) -> None:
    node = make_node()
    change_settings(port_range="1024-65535")

    with pytest.raises(PortTaken, match=f"port {held_port} is already in use: port {held_port} is used by another"):
        claim_port(node=node, port=held_port)


def test_on_another_node_only_rows_are_asked(db: None, change_settings: Any, held_port: int) -> None:
    change_settings(port_range="1024-65535")

    claim_port(node=make_node("far"), port=held_port)


def test_instances_active_runs_and_corrals_own_port_are_left_out(db: None, change_settings: Any) -> None:
    change_settings(port_range="8078-8084", port=8080)
    far = make_node("far")
    make_instance("a", node=far, port=8078)
    make_run(make_instance("b", node=far, port=8079), port=8081)
    make_instance("elsewhere", port=8082)

    assert allocate_port(node=far) == 8082


def test_an_exhausted_range_is_told_in_llamactls_words(db: None, change_settings: Any) -> None:
    change_settings(port_range="8000-8000")
    make_instance("a", port=8000)

    with pytest.raises(PortTaken) as caught:
        allocate_port(node=make_node())

    assert str(caught.value) == "failed to allocate port: no available ports in range [8000-8000]"
