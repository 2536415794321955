"""Admission in small simulated worlds with random traffic: what never happens, and that everybody's turn comes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from instances.domain.admission import Candidate, Limits, Place, Rules, Verdict, plan_admissions
from instances.domain.groups import Group
from instances.domain.matrix import Matrix, MatrixOptions
from instances.domain.swap_policy import GroupPolicy, MatrixPolicy

STEP_S = 0.5
NEW_S = 0.5
GROUPS = ["", "big", "small", "always"]
SETS = {"one": "m0 & (m1 | m2)", "two": "m3 & m4 | +one & m5", "three": "m1 & m3"}
MATRIX = Matrix(MatrixOptions(sets=SETS))


@dataclass
class Model:
    """One instance of the world; times in seconds of the world."""

    number: int
    group: str
    pinned: bool
    priority: int
    load_s: float
    state: str = "stopped"
    since: float = 0.0
    wanted_since: float | None = None
    has_begun: bool = False
    requests: list[float] = field(default_factory=list)
    waiting: int = 0
    used: float = 0.0
    longest_wait: float = 0.0

    @property
    def name(self) -> str:
        return f"m{self.number}"


class World:
    """Models, requests that last a while, and a clock; what is decided is carried out as the supervisor does."""

    def __init__(self, models: list[Model], rules: Rules) -> None:
        self.models = {model.number: model for model in models}
        self.rules = rules
        self.now = 0.0
        self.starts = 0

    def held(self) -> list[Model]:
        return [model for model in self.models.values() if model.state != "stopped"]

    def ask(self, number: int, lasts_s: float) -> None:
        """Let a request come: a ready model serves it, for all others it waits."""
        model = self.models[number]
        if model.state == "ready":
            model.requests.append(self.now + lasts_s)
            model.used = self.now
        else:
            model.waiting += 1

    def step(self) -> None:
        self.now += STEP_S
        for model in self.models.values():
            model.requests = [end for end in model.requests if end > self.now]
            if model.state == "starting" and self.now - model.since >= model.load_s:
                model.state, model.since = "ready", self.now
                model.requests += [self.now + 1.0] * model.waiting
                model.waiting = 0
            if model.state == "stopping" and not model.requests:
                model.state = "stopped"
            if model.state == "stopped" and model.waiting and model.wanted_since is None:
                model.wanted_since = self.now
        self.decide()

    def decide(self) -> None:
        before = {model.number for model in self.held()}
        candidates = [
            Candidate(
                model.number,
                model.name,
                model.group,
                pinned=model.pinned,
                priority=model.priority,
                waited_s=self.now - model.wanted_since,
                has_begun=model.has_begun,
            )
            for model in self.models.values()
            if model.state == "stopped" and model.wanted_since is not None
        ]
        for candidate, decision in plan_admissions(
            candidates, [self.place(model) for model in self.held()], self.rules
        ):
            model = self.models[candidate.instance_id]
            if decision.verdict is Verdict.START:
                model.longest_wait = max(model.longest_wait, candidate.waited_s)
                model.state, model.since, model.wanted_since, model.has_begun = "starting", self.now, None, False
                self.starts += 1
            elif decision.verdict is Verdict.REFUSE:
                model.waiting, model.wanted_since, model.has_begun = 0, None, False
            else:
                assert set(decision.victims) <= before
                model.has_begun |= bool(decision.victims)
                for victim in decision.victims:
                    self.evict(self.models[victim])

    def evict(self, victim: Model) -> None:
        assert not victim.pinned
        assert victim.state == "ready"
        victim.state = "stopping"

    def place(self, model: Model) -> Place:
        ready_for = self.now - model.since if model.state == "ready" else 0.0
        return Place(
            model.number,
            model.name,
            model.group,
            pinned=model.pinned,
            is_stopping=model.state == "stopping",
            is_reserved=model.state == "starting" or (model.state == "ready" and ready_for < NEW_S),
            in_flight=len(model.requests),
            last_used=model.used,
            ready_for_s=ready_for,
        )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    models = [
        Model(
            number,
            draw(st.sampled_from(GROUPS)),
            pinned=draw(st.integers(0, 9)) == 0,
            priority=draw(st.integers(-1, 1)),
            load_s=draw(st.sampled_from([0.0, 1.0, 3.0])),
        )
        for number in range(6)
    ]
    limits = Limits(draw(st.sampled_from([-1, 1, 2, 3])), draw(st.sampled_from([{}, {"big": 1}, {"small": 2}])), True)
    flags = st.booleans()
    groups = {
        "big": Group(draw(flags), draw(flags), draw(flags)),
        "small": Group(draw(flags), draw(flags), draw(flags)),
        "always": Group(swap=False, exclusive=False, persistent=True),
    }
    policy = draw(st.sampled_from([GroupPolicy({}), GroupPolicy(groups), MatrixPolicy(MATRIX)]))
    return World(models, Rules(limits, policy, patience_s=draw(st.sampled_from([0.0, 1.0, 2.0])), fair_after_s=20.0))


def assert_lawful(world: World) -> None:
    """Check what holds at every moment."""
    held, limits, policy = world.held(), world.rules.limits, world.rules.policy
    assert limits.max_running < 0 or len(held) <= limits.max_running
    for group, limit in limits.groups.items():
        assert sum(model.group == group for model in held) <= limit
    if isinstance(policy, GroupPolicy):
        for group, setting in policy._groups.items():
            assert not setting.swap or sum(model.group == group for model in held) <= 1
    elif held:
        target, *others = (model.name for model in held)
        assert MATRIX.solve(target, others).evicted == ()


@settings(deadline=None, max_examples=25)
@given(worlds(), st.integers(0, 2**32), st.integers(1, 4))
def test_the_limits_and_groups_hold_at_every_moment(world: World, seed: int, pace: int) -> None:
    chance = random.Random(seed)
    for _ in range(120):
        for _ in range(pace):
            world.ask(chance.randrange(6), chance.choice([0.4, 1.0, 4.0]))
        held = {model.number for model in world.held()}
        world.step()
        assert_lawful(world)
        gone = held - {model.number for model in world.held()}
        assert not any(world.models[number].requests for number in gone)


@settings(deadline=None, max_examples=25)
@given(worlds(), st.integers(0, 2**32))
def test_everybody_s_turn_comes_while_all_are_asked_for_without_pause(world: World, seed: int) -> None:
    """Each model is asked for at every step: nothing is ever idle, and still nobody waits for long."""
    chance = random.Random(seed)
    for _ in range(250):
        for number in range(6):
            world.ask(number, chance.choice([0.4, 1.0]))
        world.step()
    # Six models with priorities: 20 s until fairness sets in, then at most five turns of patience, load and drain.
    slowest = max(
        max(model.longest_wait, world.now - (model.wanted_since or world.now)) for model in world.held() or []
    )
    waiting = [world.now - model.wanted_since for model in world.models.values() if model.wanted_since is not None]
    assert max([slowest, *waiting]) <= 20 + 6 * 8


def swap_world(patience_s: float, *priorities: int) -> World:
    models = [Model(number, "one", False, priority, 1.0) for number, priority in enumerate(priorities)]
    rules = Rules(Limits(-1, {}, True), GroupPolicy({"one": Group()}), patience_s=patience_s, fair_after_s=20.0)
    return World(models, rules)


def test_steady_traffic_on_one_model_does_not_starve_another() -> None:
    """llama-swap 612: the fast path kept admitting requests to the loaded model for ever."""
    world = swap_world(1.0, 0, 0)
    world.ask(0, 1.0)
    for step in range(40):
        world.ask(0, 2.0)
        if step == 10:
            world.ask(1, 1.0)
        world.step()
    assert world.models[1].longest_wait > 0
    assert world.models[1].longest_wait <= 1.0 + 2.0 + 3 * STEP_S


def test_two_streams_of_high_priority_do_not_starve_a_lower_one() -> None:
    world = swap_world(1.0, 10, 10, 0)
    for _ in range(200):
        for number in range(3):
            world.ask(number, 1.0)
        world.step()
    assert 20 <= world.models[2].longest_wait <= 30


def test_patience_saves_swaps_under_alternating_load() -> None:
    starts = {}
    for patience_s in (0.0, 1.0, 4.0):
        world = swap_world(patience_s, 0, 0)
        for _ in range(200):
            for number in range(2):
                world.ask(number, 1.0)
            world.step()
        starts[patience_s] = world.starts
    assert starts[0.0] >= starts[1.0] > starts[4.0]
