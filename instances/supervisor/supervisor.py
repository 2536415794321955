"""The supervisor of one node: makes the node look as the database says, and keeps looking."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from instances.domain import wishes
from instances.domain.admission import Candidate, Decision, Limits, Place, Rules, Verdict, plan_admissions
from instances.domain.ports import is_port_free
from instances.domain.serving import describe_ttl, effective_ttl_s
from instances.domain.swap_policy import make_policy
from instances.domain.transitions import transition
from instances.domain.wake import wake_channel
from instances.enums import ACTIVE, DesiredState, State
from instances.logs.cancellation import wait_briefly
from instances.models import Instance
from instances.redis import async_redis_client
from instances.supervisor import work
from instances.supervisor.actor import ACTOR, InstanceActor, NoPortLeft, Surroundings
from instances.supervisor.adoption import end_orphans, find_shim
from instances.supervisor.database import DatabaseRunner
from instances.supervisor.demand import find_demand, is_idle, remaining_backoff
from instances.supervisor.preload import choose_preloads
from instances.supervisor.queue import Queue
from instances.supervisor.reports import GatewayReports, listen
from instances.supervisor.sampling import Sampling

logger = logging.getLogger(__name__)

TICK_S = 2.0
BEAT_S = 5.0
PROTECTED_S = 0.5
"""A new instance is not evicted so soon after it became ready: whoever it was started for comes first."""
HANDOVER_S = 5.0
"""Nor until every web process sends it its requests, unless one takes longer than this."""


class Supervisor:
    """One per node, in one event loop. It alone starts and stops on the node, so admission needs no locks."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.node_id = 0
        self.database = DatabaseRunner()
        self.reports = GatewayReports()
        self.actors: dict[int, InstanceActor] = {}
        self.promised_ports: set[int] = set()
        self.queue = Queue()
        corral = settings.CORRAL
        self.rules = Rules(
            limits=Limits(corral.max_running_instances, corral.group_limits, corral.enable_lru_eviction),
            policy=make_policy(corral.groups, corral.matrix),
            patience_s=corral.swap_patience,
            fair_after_s=corral.on_demand_start_timeout / 2,
        )
        self.stop_models = False
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._beaten = 0.0
        self._look_again_at = 0.0
        self._has_preloaded = False

    async def run(self) -> None:
        """Supervise until ``end`` is called. Survives a database or Redis that is away for a while."""
        client = async_redis_client()
        self.redis = client
        listener = asyncio.create_task(
            listen(client, self.reports, wake_channel(self.node), self._wake.set), name="reports"
        )
        sampling = Sampling(self.node, client, self.database, self.actors)
        try:
            if await self._adopt_when_possible(client):
                await asyncio.sleep(0)
                await self._supervise()
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
            await sampling.end()
            await self._leave()
            await client.aclose()
            await self.database.close()

    def end(self, *, stop_models: bool) -> None:
        """Ask ``run`` to end; models stay alive to be adopted unless ``stop_models``."""
        self.stop_models = stop_models
        self._ending.set()
        self._wake.set()

    # Start and end

    async def _adopt_when_possible(self, client: redis.asyncio.Redis) -> bool:
        while not self._ending.is_set():
            try:
                self.node_id = await self.database.run(work.register_node, self.node)
                await self._adopt(client)
            except DatabaseError as error:
                logger.warning("the database can't be read (%s); trying again in 2 s", error)
                await asyncio.sleep(2)
            else:
                logger.info("supervising node %s: %s instances", self.node, len(self.actors))
                return True
        return False

    async def _adopt(self, client: redis.asyncio.Redis) -> None:
        found = await self.database.run(work.load_work, self.node_id)
        around = self._surroundings(client)
        tokens = {run.token for run in found.runs.values()}
        await asyncio.to_thread(end_orphans, Path(settings.CORRAL.data_dir), tokens)
        for row in found.instances:
            actor = self.actors[row.pk] = InstanceActor(row, around)
            if row.state == State.BACKOFF:
                delay = float(row.options.get("restart_delay", 0))
                actor.restart_due = time.monotonic() + remaining_backoff(row.restart_at, timezone.now(), delay)
            run = found.runs.get(row.pk)
            if run is not None:
                shim = await asyncio.to_thread(find_shim, run)
                actor.adopt(run, shim)
                logger.info("instance %s: %s run %s", row.name, "adopted" if shim else "lost", run.pk)

    def _surroundings(self, client: redis.asyncio.Redis) -> Surroundings:
        return Surroundings(
            node_id=self.node_id,
            database=self.database,
            redis=client,
            reports=self.reports,
            wake=self._wake.set,
            choose_port=self._choose_port,
        )

    async def _leave(self) -> None:
        if self.stop_models:
            for actor in self.actors.values():
                actor.interrupt()
            await asyncio.gather(*(self._stop_for_good(actor) for actor in self.actors.values()))
        await asyncio.gather(*(actor.give_up() for actor in self.actors.values()))

    async def _stop_for_good(self, actor: InstanceActor) -> None:
        while actor.busy:
            actor.interrupt()
            await actor.settle()
        if actor.run is not None:
            actor.row = await self.database.run(Instance.objects.get, pk=actor.row.pk)
            actor.stop_reason = "Corral was shut down."
            actor.begin("stop", actor.stop)
            await actor.settle()

    # The loop

    async def _supervise(self) -> None:
        while not self._ending.is_set():
            try:
                await self._look()
            except DatabaseError as error:
                logger.warning("the database can't be used (%s); looking again in %s s", error, TICK_S)
            except Exception:
                logger.exception("a look at the node failed; looking again in %s s", TICK_S)
                await asyncio.sleep(TICK_S)
            await wait_briefly(self._wake, max(0.0, self._look_again_at - time.monotonic()))

    def _look_again(self, at: float) -> None:
        """Look again at this monotonic time at the latest."""
        self._look_again_at = min(self._look_again_at, at)

    async def _look(self) -> None:
        self._wake.clear()
        began = time.monotonic()
        self._look_again_at = began + TICK_S
        found = await self.database.run(work.load_work, self.node_id)
        self._meet(found, began)
        rows = [row for row in found.instances if self._is_current(row, began)]
        for row in found.instances:
            await self._stop_when_idle(row)
        self._queue_up(found.instances, began)
        if not self._has_preloaded:
            await self._preload(found.instances)
        for row in rows:
            await self._want_by_demand(row)
        await self._admit(rows, found.instances)
        for row in rows:
            await self._steer(self.actors[row.pk])
        if began - self._beaten >= BEAT_S:
            self._beaten = began
            await self.database.run(work.beat, self.node_id)
            await self.database.run(wishes.record_use, self._last_uses(found.instances))

    def _is_current(self, row: Instance, loaded_at: float) -> bool:
        """Whether the row can be acted on: no operation is under way, and none ended after the row was read."""
        actor = self.actors[row.pk]
        if actor.busy:
            if self._must_stop(actor):
                actor.interrupt()
            return False
        return actor.settled_at < loaded_at

    def _meet(self, found: work.Work, loaded_at: float) -> None:
        """Bring the actors in step with the rows: new instances, changed rows, deleted instances."""
        around = self._surroundings(self.redis)
        alive = set()
        for row in found.instances:
            alive.add(row.pk)
            actor = self.actors.get(row.pk)
            if actor is None:
                self.actors[row.pk] = InstanceActor(row, around)
            elif actor.busy:
                actor.row.desired_state, actor.row.generation = row.desired_state, row.generation
                actor.row.disabled = row.disabled
            elif actor.settled_at < loaded_at:
                actor.row = row
            self.promised_ports.discard(row.port)
        for instance_id in self.actors.keys() - alive:
            actor = self.actors[instance_id]
            if actor.shim is not None:
                logger.warning("instance %s was deleted while its process ran; ending it", actor.row.name)
                actor.shim.send(signal.SIGTERM)
            actor.interrupt()
            if not actor.busy:
                del self.actors[instance_id]

    # Wishes

    def _is_wanted(self, row: Instance) -> bool:
        return row.desired_state == DesiredState.RUNNING and not row.disabled

    def _must_stop(self, actor: InstanceActor) -> bool:
        outdated = actor.run is not None and actor.run.generation < actor.row.generation
        return not self._is_wanted(actor.row) or outdated

    async def _preload(self, rows: list[Instance]) -> None:
        """Wish, once, that what is to be loaded at the start runs; it pushes nothing out."""
        names = settings.CORRAL.preload
        for row in choose_preloads(rows, names):
            if await self.database.run(wishes.want_running, row.pk, actor=ACTOR, reason="Loaded at Corral's start."):
                self.queue.join(row.pk, since=time.monotonic(), can_evict=False)
                row.desired_state, row.state, row.wanted_at = DesiredState.RUNNING, State.STOPPED, timezone.now()
        for name in await self.database.run(work.find_unknown, names) if names else ():
            logger.warning("CORRAL_PRELOAD names %s, which is no instance's name or alias", name)
        self._has_preloaded = True

    async def _want_by_demand(self, row: Instance) -> None:
        """Wish that a stopped instance runs when requests wait for it, and take the wish back when they have left."""
        waiting = self.reports.waiting(row.pk)
        if row.state not in (State.STOPPED, State.FAILED) or row.disabled or not row.options.get("on_demand_start"):
            return
        wanted = row.desired_state == DesiredState.RUNNING and row.state == State.STOPPED
        demand = find_demand(waiting, changed_at=row.state_changed_at.timestamp(), refused_at=refused_at(row))
        if demand is not None:
            if not wanted:
                reason = "A request waits for it."
                if not await self.database.run(wishes.want_running, row.pk, actor="gateway", reason=reason):
                    return
                row.desired_state, row.state, row.wanted_at = DesiredState.RUNNING, State.STOPPED, timezone.now()
            self.queue.join(row.pk, since=demand.arrived, can_evict=demand.can_evict, by_request=True)
        elif wanted and self.queue.is_by_request(row.pk) and not waiting:
            self.queue.leave(row.pk)
            reason = "Nobody waits for it any more."
            if await self.database.run(wishes.want_stopped, row.pk, actor="gateway", reason=reason):
                row.desired_state = DesiredState.STOPPED

    async def _stop_when_idle(self, row: Instance) -> None:
        actor, ttl_s, now = self.actors[row.pk], effective_ttl_s(row.options), time.monotonic()
        in_flight, waiting = self.reports.in_flight(row.pk), self.reports.waiting(row.pk)
        actor.used_at = now if waiting else max(actor.used_at, self.reports.used_at(row.pk))
        if row.state != State.READY or not self._is_wanted(row) or not self.reports.are_complete or not ttl_s:
            return
        if is_idle(ttl_s=ttl_s, quiet_s=now - actor.used_at, in_flight=in_flight, waiting=len(waiting)):
            reason = f"No request for {describe_ttl(ttl_s)}."
            if await self.database.run(wishes.want_stopped, row.pk, actor=ACTOR, reason=reason, kind="idle"):
                row.desired_state = actor.row.desired_state = DesiredState.STOPPED
                actor.stop_reason = reason
                actor.interrupt()
        else:
            # Who is busy now has its whole time before it.
            self._look_again((now if in_flight else actor.used_at) + ttl_s)

    # Admission

    def _queue_up(self, rows: list[Instance], began: float) -> None:
        """Note since when each instance that is wanted and has no place waits for one."""
        idle = (row for row in rows if not self.actors[row.pk].busy)
        waiting = [row for row in idle if self._is_wanted(row) and self._may_begin(self.actors[row.pk])]
        self.queue.keep({row.pk for row in waiting})
        for row in waiting:
            arrivals = (entry.arrived for entry in self.reports.waiting(row.pk) if entry.can_start)
            self.queue.note(row, min(arrivals, default=began))

    async def _admit(self, rows: list[Instance], everyone: list[Instance]) -> None:
        """Let in what is wanted, as far as limits and groups allow, and make room for it."""
        now = time.monotonic()
        places = {row.pk: self._place(row, now) for row in everyone if self._holds_place(row)}
        waiting = {row.pk: row for row in rows if self._is_wanted(row) and self._may_begin(self.actors[row.pk])}
        candidates = [self.queue.candidate(row, now) for row in waiting.values()]
        watched: set[int] = set()
        for candidate, decision in plan_admissions(candidates, places.values(), self.rules):
            watched.update(decision.awaited)
            await self._act_upon(waiting[candidate.instance_id], candidate, decision, places)
        self.reports.watched = frozenset(watched)
        for place in places.values():
            if place.instance_id in watched and place.is_reserved and place.ready_for_s:
                self._look_again(now + max(0.2, PROTECTED_S - place.ready_for_s))

    async def _act_upon(
        self, row: Instance, candidate: Candidate, decision: Decision, places: dict[int, Place]
    ) -> None:
        if decision.verdict is Verdict.START:
            self.queue.leave(row.pk)
            actor = self.actors[row.pk]
            actor.ready_since = None
            actor.begin("start", actor.start)
        elif decision.verdict is Verdict.REFUSE:
            self.queue.leave(row.pk)
            await self.database.run(wishes.refuse_start, row.pk, actor=ACTOR, reason=decision.reason)
        else:
            if decision.ask_in_s is not None:
                self._look_again(time.monotonic() + decision.ask_in_s)
            if decision.victims:
                self.queue.begin_swap(row.pk)
                names = ", ".join(places[victim].name for victim in decision.victims)
                rule = self.rules.policy.explain(candidate, list(places.values()))
                logger.info("instance %s needs room, stopping %s%s", row.name, names, f" ({rule})" if rule else "")
            for victim in decision.victims:
                await self._evict(victim, row)
            await self.database.run(wishes.note_reason, row.pk, reason=decision.reason)

    def _may_begin(self, actor: InstanceActor) -> bool:
        if actor.row.state == State.STOPPED:
            return True
        if actor.row.state != State.BACKOFF:
            return False
        # The row's time may have been moved forward by an explicit start; ours does not follow the wall clock.
        called_off = actor.row.restart_at is None or actor.row.restart_at <= timezone.now()
        return called_off or time.monotonic() >= (actor.restart_due or 0.0)

    def _holds_place(self, row: Instance) -> bool:
        actor = self.actors[row.pk]
        return row.state in ACTIVE or (actor.busy and actor.operation == "start")

    def _place(self, row: Instance, now: float) -> Place:
        actor = self.actors[row.pk]
        line = self.reports.waiting(row.pk)
        stopping = row.state == State.STOPPING or not self._is_wanted(row)
        return Place(
            row.pk,
            row.name,
            row.group,
            pinned=row.pinned,
            is_stopping=stopping,
            is_reserved=not stopping and self._is_new(actor, now),
            in_flight=self.reports.in_flight(row.pk) + sum(entry.count for entry in line),
            last_used=actor.used_at,
            ready_for_s=0.0 if actor.ready_since is None else now - actor.ready_since,
            waiting_for_s=now - min((entry.arrived for entry in line), default=now),
        )

    def _is_new(self, actor: InstanceActor, now: float) -> bool:
        """Whether those for whom the instance was started may not have reached it yet."""
        if actor.ready_since is None or now - actor.ready_since < PROTECTED_S:
            return True
        handed_over = self.reports.is_handed_over(actor.row.pk, actor.ready_since)
        return not handed_over and now - actor.ready_since < HANDOVER_S

    async def _evict(self, victim: int, newcomer: Instance) -> None:
        actor = self.actors[victim]
        reason = f"Stopped to make room for {newcomer.name}."
        if await self.database.run(wishes.want_stopped, victim, actor=ACTOR, reason=reason, kind="evicted"):
            actor.row.desired_state = DesiredState.STOPPED
            actor.stop_reason, actor.stop_drains_fully = reason, True
            actor.interrupt()
            self._wake.set()

    # Acting

    async def _steer(self, actor: InstanceActor) -> None:
        """Begin the operation that brings one instance nearer to what is wanted."""
        row = actor.row
        if actor.busy:
            return
        if row.state in (State.STARTING, State.READY):
            if actor.shim is None or not actor.shim.is_alive():
                actor.begin("resume start", actor.resume_start)
            elif self._must_stop(actor):
                actor.begin("stop", actor.stop)
            elif row.state == State.STARTING:
                actor.begin("resume start", actor.resume_start)
            else:
                actor.begin("watch", actor.watch)
        elif row.state == State.STOPPING:
            actor.begin("stop", actor.stop)
        elif row.state == State.BACKOFF and not self._is_wanted(row):
            await self.database.run(transition, row.pk, to=State.STOPPED, actor=ACTOR, allowed=[State.BACKOFF])
            self._wake.set()

    async def _choose_port(self) -> int:
        held = await self.database.run(work.used_ports, self.node_id) | self.promised_ports
        for port in settings.CORRAL.ports:
            if port not in held and is_port_free(port):
                self.promised_ports.add(port)
                return port
        raise NoPortLeft(f"No port of CORRAL_PORT_RANGE ({settings.CORRAL.port_range}) is free.")

    def _last_uses(self, rows: list[Instance]) -> dict[int, float]:
        return {row.pk: used for row in rows if (used := self.reports.last_used(row.pk)) > 0}


def refused_at(row: Instance) -> float | None:
    """Return when a start of the instance was last refused, in epoch seconds."""
    return row.refused_at.timestamp() if row.refused_at else None
