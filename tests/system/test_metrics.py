"""`GET /metrics` of a whole Corral, over all of its web processes."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll

pytestmark = pytest.mark.any_database


def read(corral: Stack, name: str, **labels: str) -> float:
    """The sum of a sample over the label sets that have these labels."""
    answer = corral.api.get("/metrics")
    assert answer.status_code in (200, 503), answer.text
    if answer.status_code == 503:
        return 0.0
    samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def test_requests_of_all_web_processes_add_up_and_engines_are_sampled(make_corral: StackFactory) -> None:
    corral = make_corral(web_workers="2")
    corral.create("m")
    for _ in range(10):
        corral.api.headers["connection"] = "close"  # so that both processes get some
        assert corral.chat("m").status_code == 200
    del corral.api.headers["connection"]
    poll(lambda: read(corral, "corral_requests_total", instance="m") == 10, what="ten requests are counted")
    assert read(corral, "corral_requests_total", instance="m", status="200") == 10
    assert read(corral, "corral_request_duration_seconds_count", instance="m") == 10
    assert read(corral, "corral_tokens_total", instance="m", kind="completion") > 0
    poll(lambda: read(corral, "corral_instance_starts_total", instance="m") == 1, what="a start is counted")
    poll(
        lambda: read(corral, "corral_process_resident_memory_bytes", instance="m") > 1e6,
        what="the engine's memory is sampled",
    )
    assert read(corral, "llamaswap_memory_total_bytes") > 1e8
