"""What a host is doing: processors, memory, load, network."""

from __future__ import annotations

from typing import Any

import psutil

LEFT_OUT = ("lo", "veth")
"""Loopback, and the interfaces of containers, which come and go: each would leave a time series behind."""


class HostReader:
    """Used from one thread: psutil keeps for each thread what the processors had done when it last looked."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)

    def read_host(self) -> dict[str, Any]:
        """Describe the host; the use of the processors is that since the last call."""
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return {
            "cpu_percent": psutil.cpu_percent(percpu=True),
            "memory_total_bytes": memory.total,
            "memory_used_bytes": memory.used,
            "memory_free_bytes": memory.free,
            "memory_available_bytes": memory.available,
            "swap_total_bytes": swap.total,
            "swap_used_bytes": swap.used,
            "load": list(psutil.getloadavg()),
            "network": {
                name: {"recv": traffic.bytes_recv, "sent": traffic.bytes_sent}
                for name, traffic in psutil.net_io_counters(pernic=True).items()
                if not name.startswith(LEFT_OUT)
            },
        }
