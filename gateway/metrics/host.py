"""Hosts, GPUs and processes. Names of llama-swap where it has one, so that its dashboards work; plus the node."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.metrics.samples import Gpu, NodeSample

_HOST_GAUGES = (
    ("llamaswap_memory_total_bytes", "memory_total_bytes", "Memory of the host."),
    ("llamaswap_memory_used_bytes", "memory_used_bytes", "Memory in use."),
    ("llamaswap_memory_free_bytes", "memory_free_bytes", "Memory used for nothing, not even for caches."),
    ("corral_node_memory_available_bytes", "memory_available_bytes", "Memory that programs can get without swapping."),
    ("llamaswap_swap_total_bytes", "swap_total_bytes", "Swap space of the host."),
    ("llamaswap_swap_used_bytes", "swap_used_bytes", "Swap space in use."),
)
_GPU_GAUGES = (
    ("temperature_celsius", "Temperature of the GPU."),
    ("vram_temperature_celsius", "Temperature of the GPU's memory."),
    ("util_percent", "Share of time in which the GPU worked."),
    ("memory_util_percent", "Share of the GPU's memory in use."),
    ("memory_used_bytes", "GPU memory in use."),
    ("memory_total_bytes", "Memory of the GPU."),
    ("fan_speed_percent", "Speed of the GPU's fan."),
    ("power_draw_watts", "Power the GPU draws."),
)


def list_host_families(nodes: Sequence[NodeSample]) -> Iterator[Metric]:
    """The hosts' figures."""
    text = "Seconds since the node's supervisor looked; absent when it has not for half a minute."
    age = GaugeMetricFamily("corral_node_sample_age_seconds", text, labels=("node",))
    cpu = GaugeMetricFamily("llamaswap_cpu_util_percent", "Use of a CPU core.", labels=("node", "core"))
    load = GaugeMetricFamily("llamaswap_load_average", "Load average.", labels=("node", "interval"))
    text = "Bytes that went through a network interface."
    network = CounterMetricFamily("llamaswap_network_bytes", text, labels=("node", "interface", "direction"))
    for sample in nodes:
        age.add_metric([sample.node], max(0.0, time.time() - sample.sampled_at))
        for core, percent in enumerate(sample.cpu_percent):
            cpu.add_metric([sample.node, str(core)], percent)
        for interval, value in zip(("1m", "5m", "15m"), sample.load, strict=False):
            load.add_metric([sample.node, interval], value)
        for interface, traffic in sample.network.items():
            network.add_metric([sample.node, interface, "recv"], traffic.recv)
            network.add_metric([sample.node, interface, "sent"], traffic.sent)
    yield from (age, cpu, load, network)
    for name, attribute, text in _HOST_GAUGES:
        family = GaugeMetricFamily(name, text, labels=("node",))
        for sample in nodes:
            held: int | None = getattr(sample, attribute)
            if held is not None:
                family.add_metric([sample.node], held)
        yield family
    yield from _list_gpu_families([(sample.node, gpu) for sample in nodes for gpu in sample.gpus])


def _list_gpu_families(gpus: Sequence[tuple[str, Gpu]]) -> Iterator[Metric]:
    for attribute, text in _GPU_GAUGES:
        family = GaugeMetricFamily(f"llamaswap_gpu_{attribute}", text, labels=("node", "id", "name", "uuid"))
        for node, gpu in gpus:
            value: float | None = getattr(gpu, attribute)
            if value is not None:
                family.add_metric([node, gpu.id, gpu.name, gpu.uuid], value)
        if family.samples:
            yield family


def list_process_families(nodes: Iterable[NodeSample], names: Mapping[int, str]) -> Iterator[Metric]:
    """The process trees of the instances in `names`, by instance id."""
    labels = ("instance", "node")
    text = "CPU time of the instance's processes since its start."
    cpu = CounterMetricFamily("corral_process_cpu_seconds", text, labels=labels)
    text = "Memory of the instance's processes; what they share is counted for each."
    memory = GaugeMetricFamily("corral_process_resident_memory_bytes", text, labels=labels)
    threads = GaugeMetricFamily("corral_process_threads", "Threads of the instance's processes.", labels=labels)
    text = "GPU memory of the instance's processes."
    gpu = GaugeMetricFamily("corral_process_gpu_memory_bytes", text, labels=(*labels, "id"))
    for sample in nodes:
        for instance_id, tree in sample.instances.items():
            if (name := names.get(instance_id)) is None:
                continue
            cpu.add_metric([name, sample.node], tree.cpu_seconds)
            memory.add_metric([name, sample.node], tree.resident_bytes)
            threads.add_metric([name, sample.node], tree.threads)
            for gpu_id, used in tree.gpu_bytes.items():
                gpu.add_metric([name, sample.node, gpu_id], used)
    yield from (cpu, memory, threads, gpu)
