"""Giving ports to engines: from the configured range, not another instance's, and free in the operating system."""

from __future__ import annotations

import socket

from django.conf import settings

from instances.errors import InvalidOptions, PortTaken
from instances.models import Instance, Node, Run

FIELD = "backend_options.port"


def is_port_free(port: int) -> bool:
    """Whether a server could listen on the port now, on every address and on loopback (another may hold either)."""
    for host in ("0.0.0.0", "127.0.0.1"):  # noqa: S104  a test bind, closed at once
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a connection in TIME_WAIT does not hold the port, a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def taken_ports(*, node: Node, besides: Instance | None = None) -> set[int]:
    """Return the ports of the node that instances have or that a run still holds (a port may have been changed)."""
    instances = Instance.objects.filter(node=node)
    runs = Run.objects.filter(node=node, exited_at__isnull=True)
    if besides is not None:
        instances = instances.exclude(pk=besides.pk)
        runs = runs.exclude(instance=besides)
    return {*instances.values_list("port", flat=True), *runs.values_list("port", flat=True)}


def check_port_number(port: int) -> None:
    """Raise InvalidOptions unless the number can be a port at all."""
    if not 0 <= port <= 65535:
        fault = f"invalid port range: {port}"
        raise InvalidOptions(fault, fields={FIELD: fault})


def allocate_port(*, node: Node) -> int:
    """Return the lowest free port of the range for a new instance; raise PortTaken when none is left.

    The operating system is asked only where this process runs on the node; elsewhere the supervisor asks it at start.
    """
    taken = taken_ports(node=node)
    is_here = node.name == settings.CORRAL.node
    for port in settings.CORRAL.ports:
        if port not in taken and port != settings.CORRAL.port and (not is_here or is_port_free(port)):
            return port
    raise port_error(f"failed to allocate port: no available ports in range {shown_range()}")


def claim_port(*, node: Node, port: int, besides: Instance | None = None) -> None:
    """Check that a user may have this port for a new instance, or for ``besides``, whose port changes.

    Raises PortTaken with llamactl's sentence, which differs between creation and update.
    """
    fault = find_port_fault(node=node, port=port, besides=besides)
    if not fault:
        return
    if besides is None:
        raise port_error(f"port {port} is already in use: {fault}")
    raise port_error(f"failed to allocate port {port}: {fault}")


def find_port_fault(*, node: Node, port: int, besides: Instance | None) -> str:
    """Return why an instance can't have the port, or an empty text."""
    if port not in settings.CORRAL.ports:
        return f"port {port} is out of range {shown_range()}"
    if port == settings.CORRAL.port:
        return f"port {port} is Corral's own"
    if port in taken_ports(node=node, besides=besides):
        return f"port {port} is already allocated"
    own_run = besides is not None and besides.runs.filter(exited_at__isnull=True, port=port).exists()
    if node.name == settings.CORRAL.node and not own_run and not is_port_free(port):
        return f"port {port} is used by another program on this host"
    return ""


def port_error(message: str) -> PortTaken:
    """Return the error that names the option, so that a form can show it beside the field."""
    return PortTaken(message, fields={FIELD: message})


def shown_range() -> str:
    """Return the range as llamactl writes it: ``[8000-9000]``."""
    ports = settings.CORRAL.ports
    return f"[{ports[0]}-{ports[-1]}]"
