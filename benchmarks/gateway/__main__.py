"""``python -m benchmarks.gateway``: everything, as tables in Markdown. ``--quick`` for a first look.

Corral runs as users run it (``corral up``, one web worker, a key with permission for one instance, accounting on); the
upstream is one of its instances, and the Go proxy stands in front of the very same process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.gateway.cases import (
    Plan,
    first_requests,
    idle_memory,
    requests,
    shares,
    streams,
    take_turns,
)
from benchmarks.gateway.contestants import MODEL, Contestant, Corral, run_corral, run_go_proxy
from benchmarks.gateway.processor_share import limit_processor
from benchmarks.gateway.rig import Rig, build_rig, describe_go
from benchmarks.gateway.tables import Table, describe_machine, describe_plan, say
from tests.system.stack import poll

CASES = ("requests", "latency", "streams", "memory", "growth", "workers")
QUICK = Plan(rounds=2, seconds=2, idle_streams=200, further_instances=200, further_keys=5000, fresh_keys=100)


def compare(rig: Rig, plan: Plan, folder: Path, options: argparse.Namespace, wanted: set[str]) -> None:
    """Corral beside the Go proxy, and beside whoever else was named."""
    with ExitStack() as running:
        corral = running.enter_context(run_corral(folder / "one", rig, upstream_port=options.upstream_port))
        go = running.enter_context(run_go_proxy(rig, corral.upstream))
        everyone = [go, corral.contestant, Contestant("none", corral.upstream)]
        if options.blind:
            blind = running.enter_context(run_go_proxy(rig, corral.upstream, "blind Go proxy", "-blind"))
            everyone.insert(1, blind)
        for other in options.other:
            name, _, address = other.rpartition("=")
            everyone.insert(-1, Contestant(name or address, address.rstrip("/").removesuffix("/v1")))
        table = Table([contestant.name for contestant in everyone], subject="Corral", base="Go proxy")
        sent = 0
        if "requests" in wanted:
            rounds = take_turns(everyone, plan.rounds, requests(rig, plan, plan.clients))
            sent += rounds.total("Corral", "with_warm_up")
            table.add(f"requests/s, {plan.clients} clients", rounds, "requests_per_s", ",.0f", ">= 1.2")
            table.add("the same, p99 in ms", rounds, "p99_ms", ".2f")
            table.add("processor time per request, µs", rounds, "processor_us", ".0f")
        if "latency" in wanted:
            rounds = take_turns(everyone, plan.rounds, requests(rig, plan, 1))
            sent += rounds.total("Corral", "with_warm_up")
            table.add("1 client: p50 in ms", rounds, "p50_ms", ".3f", "<= 1.0")
            table.add("1 client: p99 in ms", rounds, "p99_ms", ".3f")
        if "memory" in wanted:
            known = [contestant for contestant in everyone if contestant.processes]
            rounds = take_turns(known, 1, idle_memory(rig, plan))
            sent += plan.idle_streams
            table.add("RSS before, MiB", rounds, "before", ".1f")
            table.add(f"RSS with {plan.idle_streams:,} idle streams, MiB", rounds, "during", ".1f")
            table.add("each stream, KiB", rounds, "each_kib", ".1f")
        for pace in plan.paces if "streams" in wanted else ():
            rounds = take_turns(everyone, plan.rounds, streams(rig, plan, pace))
            sent += rounds.total("Corral", "streams")
            title = f"{plan.streams} streams, a chunk each {pace.interval_ms:g} ms"
            table.add(f"{title}: chunks/s", rounds, "chunks_per_s", ",.0f", "1.0")
            table.add("the same: p99 of a chunk's lag, ms", rounds, "lag_p99_ms", ".2f", "<= 1.3")
            table.add("the same: p99 until the first chunk, ms", rounds, "first_p99_ms", ".1f", "<= 1.1")
            table.add("the same: processor time per chunk, µs", rounds, "processor_us", ".1f")
        say(f"\nOf {sent:,} requests Corral has recorded {count_recorded(corral, sent):,}.")


def count_recorded(corral: Corral, expected: int) -> int:
    """How many requests are in Corral's accounts; they are written in batches, so this waits a little for all."""

    def count() -> int:
        answer = corral.stack.api.get("/api/v1/usage", params={"instance": MODEL})
        return int(answer.json()[0]["requests"])

    with suppress(AssertionError):
        poll(lambda: count() >= expected, what="every request is recorded")
    return count()


def compare_growth(rig: Rig, plan: Plan, folder: Path) -> None:
    """A small Corral beside one with many instances and keys."""
    few = plan.fresh_keys * plan.rounds + 1
    with ExitStack() as running:
        small = running.enter_context(run_corral(folder / "small", rig, name=f"1 instance, {few:,} keys", keys=few))
        title = f"{plan.further_instances:,} instances, {plan.further_keys:,} keys"
        grown = running.enter_context(
            run_corral(folder / "grown", rig, name=title, keys=plan.further_keys, instances=plan.further_instances)
        )
        both = [small.contestant, grown.contestant]
        table = Table(
            [contestant.name for contestant in both], subject=grown.contestant.name, base=small.contestant.name
        )
        rounds = take_turns(both, plan.rounds, requests(rig, plan, plan.clients))
        table.add(f"requests/s, {plan.clients} clients", rounds, "requests_per_s", ",.0f", "1.0")
        table.add("processor time per request, µs", rounds, "processor_us", ".0f", "1.0")
        rounds = take_turns(both, plan.rounds, requests(rig, plan, 1))
        table.add("1 client: p50 in ms", rounds, "p50_ms", ".3f", "1.0")
        files = {"small": small, "grown": grown}
        keys = {corral.contestant.name: folder / name / "keys" for name, corral in files.items()}
        rounds = take_turns(both, plan.rounds, first_requests(rig, plan, keys))
        table.add("a key's first request: p50 in ms", rounds, "p50_ms", ".3f", "1.0")
        rounds = take_turns(both, 1, lambda contestant: {"rss": contestant.resident_mib()})
        table.add("RSS of the web process, MiB", rounds, "rss", ".1f")


def compare_workers(rig: Rig, plan: Plan, folder: Path, share: float | None) -> None:
    """One web worker beside two, each with ``share`` of a core if one is given."""
    clients = 2 * plan.clients
    with ExitStack() as running:
        one = running.enter_context(run_corral(folder / "single", rig, name="1 worker"))
        two = running.enter_context(run_corral(folder / "double", rig, name="2 workers", workers=2))
        both = [one.contestant, two.contestant]
        if share is not None:
            workers = [process for contestant in both for process in contestant.processes]
            running.enter_context(limit_processor(workers, share))
            say(f"\nEach worker has {share:.0%} of a core; the upstream and the load have the rest.")
        table = Table(["1 worker", "2 workers"], subject="2 workers", base="1 worker")
        measure = requests(rig, plan, clients)
        rounds = take_turns(both, plan.rounds, lambda contestant: shares(contestant, measure))
        table.add(f"requests/s, {clients} clients", rounds, "requests_per_s", ",.0f", "near 2 on free cores")
        table.add("processor time per request, µs", rounds, "processor_us", ".0f", "1.0")
        table.add("the busiest worker's part", rounds, "busiest", ".2f", "near 0.5")
    cores = os.cpu_count() or 1
    if cores < 5 and share is None:
        need = "Two workers, the upstream and the load want five cores or more to themselves"
        say(f"\n{need}; here they share {cores}. --worker-share 0.2 leaves room.")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, fewer rows")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--only", action="append", choices=CASES, help="only this case; may be repeated")
    parser.add_argument("--blind", action="store_true", help="a Go proxy too that doesn't look into the body")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=URL", help="a proxy of your own")
    parser.add_argument("--worker-share", type=float, metavar="PART", help="of a core for each worker of that case")
    parser.add_argument("--upstream-port", type=int, help="where your own proxy finds the upstream")
    options = parser.parse_args()
    if options.other and not options.upstream_port:
        parser.error("--other needs --upstream-port: the port that your proxy forwards to")
    return options


def main() -> None:
    """Measure and print."""
    options = parse_arguments()
    plan = QUICK if options.quick else Plan()
    plan = Plan(
        **{
            **vars(plan),
            **{name: value for name in ("rounds", "seconds") if (value := getattr(options, name)) is not None},
        }
    )
    wanted = set(options.only or CASES)
    rig = Rig(build_rig())
    say(f"{describe_machine()}, {describe_go(rig.program)}.\n\n{describe_plan(plan)}")
    with tempfile.TemporaryDirectory(prefix="corral-") as name:
        folder = Path(name)
        if wanted - {"growth", "workers"}:
            compare(rig, plan, folder, options, wanted)
        if "growth" in wanted:
            compare_growth(rig, plan, folder)
        if "workers" in wanted:
            compare_workers(rig, plan, folder, options.worker_share)


if __name__ == "__main__":
    main()
