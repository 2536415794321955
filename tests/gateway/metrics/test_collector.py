"""What is counted of a request."""

from __future__ import annotations

from typing import get_args

import pytest

from accounts.enums import RequestOutcome
from gateway.accounting.entry import RecordedOutcome
from gateway.exchange import Outcome
from gateway.metrics.collector import Collector
from gateway.structs import Route
from tests.gateway.harness import Gateway, wait_until
from tests.gateway.metrics.exchanges import BETA, Done, Used

pytestmark = pytest.mark.any_database


def fields_of(*exchanges: Done) -> dict[str, int]:
    collector = Collector()
    for exchange in exchanges:
        collector.observe(exchange)
    return collector.take_changed()


def test_a_request_is_counted_by_instance_engine_status_and_outcome() -> None:
    fields = fields_of(Done(), Done(), Done(route=BETA, status=503, outcome="refused"))
    assert fields["requests|7|llama_cpp|200|answered"] == 2
    assert fields["requests|8|vllm|503|refused"] == 1


def test_tokens_are_added_up_by_instance_engine_status_and_kind() -> None:
    fields = fields_of(
        Done(usage=Used(100, 20, 30)),
        Done(usage=Used(1, 2, 0)),
        Done(usage=Used(5, 0, 0), outcome="cancelled"),
        Done(usage=Used(7, 0, 0), route=BETA, status=503),
        Done(),
    )
    assert {field: count for field, count in fields.items() if field.startswith("tokens|")} == {
        "tokens|7|llama_cpp|200|prompt": 106,
        "tokens|7|llama_cpp|200|completion": 22,
        "tokens|7|llama_cpp|200|cached": 30,
        "tokens|8|vllm|503|prompt": 7,
    }


@pytest.mark.parametrize(
    ("took_s", "bucket"), [(0.0, "0.01"), (0.009, "0.01"), (0.0101, "0.025"), (599, "600.0"), (601, "+Inf")]
)
def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed(took_s: float, bucket: str) -> None:
    fields = fields_of(Done(took_s=took_s))
    assert fields[f"duration|7|{bucket}"] == 1
    assert fields.get("duration|7|sum", 0) == pytest.approx(took_s * 1e6, abs=2)


def test_times_that_did_not_happen_are_not_counted() -> None:
    fields = fields_of(Done())
    assert not [field for field in fields if field.startswith(("first_byte", "queue"))]
    fields = fields_of(Done(took_s=9, first_byte_after_s=7, queued_s=6))
    assert (fields["first_byte|7|10.0"], fields["queue|7|10.0"]) == (1, 1)
    assert fields["queue|7|sum"] == 6_000_000


def test_a_request_without_an_instance_is_counted_without_times() -> None:
    assert fields_of(Done(route=None, status=401, outcome="refused")) == {"requests|0||401|refused": 1}


def test_no_engine_can_make_a_row_for_each_number() -> None:
    fields = fields_of(*(Done(status=status) for status in range(100, 600)), Done(status=0, outcome="cancelled"))
    requests = {field: value for field, value in fields.items() if field.startswith("requests|")}
    assert sum(requests.values()) == 501
    assert len(requests) < 75
    assert requests["requests|7|llama_cpp|none|cancelled"] == 1
    assert requests["requests|7|llama_cpp|5xx|answered"] > 80


def test_metrics_and_activity_have_the_same_words_for_how_a_request_ended() -> None:
    assert set(get_args(Outcome)) == set(get_args(RecordedOutcome)) == set(RequestOutcome.values)


def test_only_what_changed_is_taken_and_its_totals_are_whole() -> None:
    collector = Collector()
    collector.observe(Done())
    collector.take_changed()
    assert collector.take_changed() == {}
    collector.observe(Done())
    assert collector.take_changed()["requests|7|llama_cpp|200|answered"] == 2


async def test_real_exchanges_of_a_gateway_are_understood(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.ask({"model": "unknown"})
    await wait_until(lambda: len(gateway.finished) == 2)
    collector = Collector()
    for exchange in gateway.finished:
        collector.observe(exchange)
    fields = collector.take_changed()
    route: Route = gateway.routes[0]
    assert fields[f"requests|{route.instance_id}|command|200|answered"] == 1
    assert fields[f"requests|0||{gateway.finished[1].status}|refused"] == 1
    assert sum(value for name, value in fields.items() if name.startswith("first_byte|1|") and "sum" not in name) == 1
