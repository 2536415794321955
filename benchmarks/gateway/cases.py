"""What is measured: contestants take turns, round after round, so that what else the machine does hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.contestants import Contestant
from benchmarks.gateway.rig import Rig

Numbers = Mapping[str, float]
Measure = Callable[[Contestant], Numbers]


@dataclass(frozen=True)
class Pace:
    """How many chunks a stream has, and the time from one to the next."""

    chunks: int
    interval_ms: float


@dataclass(frozen=True)
class Plan:
    """How long and how often; times in seconds."""

    rounds: int = 5
    seconds: float = 5.0
    clients: int = 32
    streams: int = 256
    paces: tuple[Pace, ...] = (Pace(chunks=100, interval_ms=20.0), Pace(chunks=25, interval_ms=80.0))
    idle_streams: int = 1000
    further_instances: int = 1000
    further_keys: int = 100_000
    fresh_keys: int = 300


@dataclass
class Rounds:
    """What each contestant reached in each round."""

    numbers: dict[str, list[Numbers]] = field(default_factory=dict)

    def median(self, name: str, key: str) -> float:
        """The median of one number over a contestant's rounds."""
        return statistics.median(round_[key] for round_ in self.numbers[name])

    def total(self, name: str, key: str) -> int:
        """The sum of a count over a contestant's rounds."""
        return sum(int(round_[key]) for round_ in self.numbers[name])

    def ratios(self, name: str, base: str, key: str) -> list[float]:
        """One contestant's number by another's of the same round, in ascending order."""
        pairs = zip(self.numbers[name], self.numbers[base], strict=True)
        return sorted(mine[key] / others[key] for mine, others in pairs)


def take_turns(contestants: Sequence[Contestant], rounds: int, measure: Measure) -> Rounds:
    """Measure everybody once per round."""
    result = Rounds({contestant.name: [] for contestant in contestants})
    for _ in range(rounds):
        for contestant in contestants:
            result.numbers[contestant.name].append(measure(contestant))
    return result


def requests(rig: Rig, plan: Plan, clients: int) -> Measure:
    """Plain requests of so many clients, each with its next one when it has its answer."""

    def measure(contestant: Contestant) -> Numbers:
        before = contestant.processor_seconds()
        words = ["-clients", str(clients), "-seconds", str(plan.seconds)]
        numbers = rig.measure("requests", *contestant.aim(), *words)
        used = contestant.processor_seconds() - before
        return {**numbers, "processor_us": used / numbers["with_warm_up"] * 1e6}

    return measure


def streams(rig: Rig, plan: Plan, pace: Pace) -> Measure:
    """Streams at the same time, chunks at a set pace."""

    def measure(contestant: Contestant) -> Numbers:
        before = contestant.processor_seconds()
        words = ["-streams", str(plan.streams), "-chunks", str(pace.chunks), "-interval", f"{pace.interval_ms:g}ms"]
        numbers = rig.measure("streams", *contestant.aim(), *words, "-seconds", str(plan.seconds))
        used = contestant.processor_seconds() - before
        return {**numbers, "processor_us": used / numbers["chunks"] * 1e6}

    return measure


def idle_memory(rig: Rig, plan: Plan) -> Measure:
    """Resident memory before and with streams that say nothing."""

    def measure(contestant: Contestant) -> Numbers:
        before = contestant.resident_mib()
        with rig.hold_streams(*contestant.aim(), "-streams", str(plan.idle_streams)):
            during = contestant.resident_mib()
        return {"before": before, "during": during, "each_kib": (during - before) * 1024 / plan.idle_streams}

    return measure


def first_requests(rig: Rig, plan: Plan, key_files: Mapping[str, Path]) -> Measure:
    """Requests one after the other, each with a key that the process hasn't seen before. Each round uses up some."""
    used: dict[str, int] = {}

    def measure(contestant: Contestant) -> Numbers:
        path = key_files[contestant.name]
        count, begin = plan.fresh_keys, used.get(contestant.name, 0)
        used[contestant.name] = begin + count
        fresh = path.with_name("fresh-keys")
        # From the end: the first key is the one that all other cases use.
        keys = path.read_text().split()[::-1][begin : begin + count]
        assert len(keys) == count, "there are too few keys for so many rounds"
        fresh.write_text("\n".join(keys))
        words = ["-url", f"{contestant.address}/v1", "-model", "rig", "-keys", str(fresh)]
        return rig.measure("requests", *words, "-clients", "1", "-count", str(count))

    return measure


def shares(contestant: Contestant, measure: Measure) -> Numbers:
    """A measurement, and which part of the processor time the busiest process of the contestant had."""
    before = [sum(process.cpu_times()[:2]) for process in contestant.processes]
    numbers = measure(contestant)
    used = [
        sum(process.cpu_times()[:2]) - earlier for process, earlier in zip(contestant.processes, before, strict=True)
    ]
    return {**numbers, "busiest": max(used) / sum(used)}
