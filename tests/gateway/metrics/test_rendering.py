"""What a scrape gets: read back with Prometheus' own parser."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from redis.asyncio import Redis

from gateway.metrics import Metrics, refuse_rendering, render_metrics
from gateway.metrics.fields import TOTALS_KEY
from gateway.metrics.samples import Gpu, NodeSample, ProcessTree, Traffic
from gateway.routes import RouteTable
from tests.gateway.harness import NO_REDIS, Valkey
from tests.gateway.metrics.exchanges import ALPHA, BETA, Done, Used, make_routes

pytestmark = pytest.mark.any_database

SAMPLE = NodeSample(
    node="north",
    sampled_at=time.time(),
    cpu_percent=[12.5, 50.0],
    memory_total_bytes=1000,
    memory_used_bytes=400,
    load=[0.5, 1.0, 1.5],
    network={"eth0": Traffic(recv=10, sent=20)},
    gpus=[Gpu(id="0", name='RTX "Max"', uuid="GPU-1", util_percent=93, power_draw_watts=215.5)],
    instances={
        7: ProcessTree(cpu_seconds=1.5, resident_bytes=4096, threads=9, gpu_bytes={"0": 30}),
        8: ProcessTree(cpu_seconds=2.5, resident_bytes=8192, threads=3),
        99: ProcessTree(cpu_seconds=9.5, resident_bytes=1, threads=1),
    },
)


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A Valkey with totals, two gateways' reports and a node's sample."""
    async with Redis.from_url(valkey.url) as client:
        metrics = Metrics(make_routes(), "one", count_dropped=lambda: 4)
        metrics.observe(Done(took_s=0.02, first_byte_after_s=0.01, usage=Used(10, 5, 3)))
        metrics.observe(Done(took_s=3.0, queued_s=2.0, status=502, outcome="refused"))
        metrics.observe(Done(route=BETA))
        metrics.observe(Done(route=msgspec.structs.replace(ALPHA, instance_id=99)))
        metrics.observe(Done(route=None, status=401, outcome="refused"))
        await metrics.write(client)
        await client.hset(TOTALS_KEY, mapping={"starts|7": 2, "swaps|7": 1, "starts|99": 1})
        reports = ({"7": 2, "8": 0}, {"7": 1}), ({"8": {"count": 3, "since": 1.0}}, {})
        for number, (in_flight, waiting) in enumerate(zip(*reports, strict=True)):
            report = {"process": str(number), "sent": 1.0, "in_flight": in_flight, "waiting": waiting}
            used = {"7": time.time() - 5, "8": time.time() - 90 - number}
            await client.set(f"corral:gateway:{number}", msgspec.json.encode({**report, "last_used": used}))
        await client.set("corral:gateway:another-version", b'{"in_flight": []}')
        await client.set("corral:node-metrics:north", msgspec.json.encode(SAMPLE))
        yield client


Rows = dict[str, dict[tuple[tuple[str, str], ...], float]]


async def scrape(redis: Redis, usable: Callable[[int], bool] | None = None, accept: str = "") -> Rows:
    """The values by name and labels."""
    answer = await render_metrics(redis, make_routes(), accept, usable)
    assert answer.status == 200, answer.body
    rows: Rows = {}
    parse = parse_openmetrics if "openmetrics" in answer.content_type else parse_text
    for family in parse(answer.body.decode()):
        assert family.documentation
        assert family.type != "unknown"
        for sample in family.samples:
            rows.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return rows


def value(rows: Rows, metric: str, /, **labels: str) -> float:
    return rows[metric][tuple(sorted(labels.items()))]


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_everything_is_read_back(redis: Redis, accept: str) -> None:
    rows = await scrape(redis, accept=accept)
    labels = {"instance": "alpha", "backend": "llama_cpp"}
    assert value(rows, "corral_requests_total", **labels, status="200", outcome="answered") == 1
    assert value(rows, "corral_requests_total", **labels, status="502", outcome="refused") == 1
    assert value(rows, "corral_requests_total", instance="", backend="", status="401", outcome="refused") == 1
    assert value(rows, "corral_tokens_total", **labels, status="200", kind="cached") == 3
    assert value(rows, "corral_request_duration_seconds_bucket", instance="alpha", le="0.025") == 1
    assert value(rows, "corral_request_duration_seconds_bucket", instance="alpha", le="5.0") == 2
    assert value(rows, "corral_request_duration_seconds_bucket", instance="alpha", le="+Inf") == 2
    assert value(rows, "corral_request_duration_seconds_count", instance="alpha") == 2
    assert value(rows, "corral_request_duration_seconds_sum", instance="alpha") == pytest.approx(3.02, abs=1e-5)
    assert value(rows, "corral_time_to_first_byte_seconds_count", instance="alpha") == 1
    assert value(rows, "corral_queue_time_seconds_sum", instance="alpha") == 2
    assert value(rows, "corral_instance_starts_total", instance="alpha") == 2
    assert value(rows, "corral_instance_starts_total", instance="beta") == 0
    assert value(rows, "corral_instance_swaps_total", instance="alpha") == 1
    assert value(rows, "corral_accounting_dropped_rows_total") == 4
    assert value(rows, "corral_requests_in_flight", instance="alpha") == 3
    assert value(rows, "corral_requests_queued", instance="beta") == 3
    assert value(rows, "corral_instance_state", instance="alpha", state="ready") == 1
    assert value(rows, "corral_instance_state", instance="alpha", state="failed") == 0
    assert sum(rows["corral_instance_state"].values()) == 2
    assert value(rows, "corral_instance_idle_seconds", instance="alpha") == 0
    assert value(rows, "corral_instance_idle_seconds", instance="beta") == pytest.approx(90, abs=5)
    assert value(rows, "corral_web_processes") == 2
    assert value(rows, "corral_process_cpu_seconds_total", instance="beta", node="north") == 2.5
    assert value(rows, "corral_process_resident_memory_bytes", instance="alpha", node="north") == 4096
    assert value(rows, "corral_process_gpu_memory_bytes", instance="alpha", node="north", id="0") == 30


async def test_hosts_and_gpus_have_llama_swaps_names(redis: Redis) -> None:
    rows = await scrape(redis)
    assert value(rows, "llamaswap_cpu_util_percent", node="north", core="1") == 50
    assert value(rows, "llamaswap_memory_total_bytes", node="north") == 1000
    assert value(rows, "llamaswap_load_average", node="north", interval="15m") == 1.5
    assert value(rows, "llamaswap_network_bytes_total", node="north", interface="eth0", direction="sent") == 20
    gpu = {"node": "north", "id": "0", "name": 'RTX "Max"', "uuid": "GPU-1"}
    assert value(rows, "llamaswap_gpu_util_percent", **gpu) == 93
    assert value(rows, "llamaswap_gpu_power_draw_watts", **gpu) == 215.5
    assert "llamaswap_gpu_fan_speed_percent" not in rows  # it has no fan, or doesn't tell


async def test_the_manual_lists_every_metric_and_no_other(redis: Redis) -> None:
    full = Gpu("0", "a", "b", *(1.0 for _ in range(8)))
    sizes = {name: 1 for name in NodeSample.__struct_fields__ if name.endswith("_bytes")}
    sample = msgspec.structs.replace(SAMPLE, gpus=[full], **sizes)
    await redis.set("corral:node-metrics:north", msgspec.json.encode(sample))
    answer = await render_metrics(redis, make_routes())
    families = list(parse_text(answer.body.decode()))
    emitted = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    manual = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    table = [line.split("|")[1] for line in manual.splitlines() if line.startswith(("| `corral_", "| `llamaswap_"))]
    assert emitted == set(re.findall(r"`(\w+)`", " ".join(table)))


async def test_a_deleted_instance_has_no_rows(redis: Redis) -> None:
    rows = await scrape(redis)
    names = {labels["instance"] for held in rows.values() for key in held if "instance" in (labels := dict(key))}
    assert names == {"alpha", "beta", ""}


async def test_who_may_use_one_instance_sees_that_one_and_no_host(redis: Redis) -> None:
    rows = await scrape(redis, usable=lambda instance_id: instance_id == 8)
    names = {dict(labels).get("instance") for held in rows.values() for labels in held}
    assert names == {"beta"}
    assert not [name for name in rows if name.startswith("llamaswap") or "accounting" in name or "web_proc" in name]
    assert value(rows, "corral_process_threads", instance="beta", node="north") == 3


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
async def test_the_format_is_the_one_asked_for(redis: Redis, accept: str, content_type: str) -> None:
    answer = await render_metrics(redis, make_routes(), accept)
    assert answer.content_type.startswith(content_type)
    assert answer.body.endswith(b"# EOF\n") == ("openmetrics" in content_type)


async def test_without_redis_the_answer_is_503_with_a_comment() -> None:
    async with Redis.from_url(NO_REDIS, retry=None) as away:
        answer = await render_metrics(away, make_routes())
    assert answer.status == 503
    assert answer.body.startswith(b"# metrics are not available: Redis can't be read")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert list(parse_text(answer.body.decode())) == []


async def test_before_the_routes_are_known_the_answer_is_503(redis: Redis) -> None:
    assert (await render_metrics(redis, RouteTable())).status == 503
    assert refuse_rendering("CORRAL_METRICS is false").body == b"# metrics are not available: CORRAL_METRICS is false\n"


async def test_totals_that_are_being_put_together_again_are_not_shown(redis: Redis) -> None:
    """Prometheus would take them for a restart from zero and count everything twice."""
    metrics = Metrics(make_routes(), "two")
    metrics.observe(Done())
    await metrics.write(redis)
    await redis.delete(TOTALS_KEY)
    assert (await render_metrics(redis, make_routes())).status == 503
    metrics.observe(Done())
    await metrics.write(redis)
    answer = await render_metrics(redis, make_routes())
    assert answer.status == 503
    assert b"try again in a few seconds" in answer.body
    await redis.hincrby(TOTALS_KEY, "@since", -3)
    assert (await scrape(redis))["corral_requests_total"]
