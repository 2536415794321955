"""What a node's supervisor says about its host and processes, as it lies in Redis (`instances/supervisor/sampling.py`).

Key `corral:node-metrics:<node>`, JSON, gone 30 s after the last sample. Everything is optional but the node's name, so
that web processes and supervisors of two versions understand each other.
"""

from __future__ import annotations

import msgspec

SAMPLE_PREFIX = "corral:node-metrics:"


class Gpu(msgspec.Struct, frozen=True):
    """One GPU; None is what its driver does not tell."""

    id: str
    name: str = ""
    uuid: str = ""
    temperature_celsius: float | None = None
    vram_temperature_celsius: float | None = None
    util_percent: float | None = None
    memory_util_percent: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    fan_speed_percent: float | None = None
    power_draw_watts: float | None = None


class Traffic(msgspec.Struct, frozen=True):
    """Bytes of a network interface since the host's start."""

    recv: int
    sent: int


class ProcessTree(msgspec.Struct, frozen=True):
    """All processes of an instance's run."""

    cpu_seconds: float
    resident_bytes: int
    threads: int
    processes: int = 0
    gpu_bytes: dict[str, int] = {}
    """GPU memory by the GPU's id."""


class NodeSample(msgspec.Struct, frozen=True):
    """One look at a node."""

    node: str
    sampled_at: float = 0.0
    """Seconds since the epoch by the node's clock."""
    cpu_percent: list[float] = []
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    load: list[float] = []
    """Load averages of 1, 5 and 15 minutes."""
    network: dict[str, Traffic] = {}
    gpus: list[Gpu] = []
    instances: dict[int, ProcessTree] = {}
    """By instance id."""
