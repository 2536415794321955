"""One instance's operations, one at a time: start, watch, stop. Each can be resumed from the row's state alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, IntegrityError
from django.utils import timezone

from instances.backends.base import OptionError
from instances.backends.registry import get_backend
from instances.domain import launch, runs, wishes
from instances.domain.ports import is_port_free
from instances.domain.transitions import transition
from instances.enums import DesiredState, State
from instances.models import Instance, Run
from instances.supervisor.containers import end_leftovers
from instances.supervisor.database import DatabaseRunner
from instances.supervisor.logs import RunLog
from instances.supervisor.ports import wait_until_port_is_free
from instances.supervisor.process import Shim, ShimState, read_state
from instances.supervisor.readiness import wait_until_ready
from instances.supervisor.reports import GatewayReports
from instances.supervisor.stopping import end_process
from instances.supervisor.verdict import Ending, judge_exit

logger = logging.getLogger(__name__)

ACTOR = "supervisor"
PORT_ATTEMPTS = 3
PORT_WAIT_S = 15.0


class NoPortLeft(Exception):
    """No port could be had for an engine; the message is for the user."""


Operation = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Surroundings:
    """What all actors of a supervisor share."""

    node_id: int
    database: DatabaseRunner
    redis: redis.asyncio.Redis
    reports: GatewayReports
    wake: Callable[[], None]
    choose_port: Callable[[], Coroutine[Any, Any, int]]


class InstanceActor:
    """Carries out one instance's life.

    The supervisor sets ``row`` from the database and begins operations; while one runs, the actor alone changes the
    instance's state.
    """

    def __init__(self, row: Instance, around: Surroundings) -> None:
        self.row = row
        self.run: Run | None = None
        self.shim: Shim | None = None
        self.log: RunLog | None = None
        self.around = around
        self.settled_at = 0.0  # monotonic time of the end of the last operation
        self.ready_since: float | None = None
        self.restart_due: float | None = None
        self.used_at = time.monotonic()
        self.stop_reason = ""
        self.stop_drains_fully = False
        self.operation = ""
        self._interrupt = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    # The supervisor's side

    @property
    def busy(self) -> bool:
        """Whether an operation is under way."""
        return self._task is not None

    def begin(self, name: str, operation: Operation) -> None:
        """Begin an operation; the caller has checked that none is under way."""
        self.operation = name
        self._interrupt.clear()
        self._task = asyncio.create_task(self._carry_out(operation), name=f"{name} {self.row.name}")

    def interrupt(self) -> None:
        """Ask a start or a watch to end early and leave the process as it is."""
        self._interrupt.set()

    async def settle(self) -> None:
        """Wait until the operation under way has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _carry_out(self, operation: Operation) -> None:
        try:
            await operation()
        except DatabaseError as error:
            # The state in the row is still true; the next look resumes from there.
            logger.warning("instance %s: %s was broken off by the database: %s", self.row.name, self.operation, error)
            await asyncio.sleep(1)
        except Exception:
            logger.exception("instance %s: %s failed", self.row.name, self.operation)
            await asyncio.sleep(1)
        finally:
            self._task = None
            self.settled_at = time.monotonic()
            self.around.wake()

    @property
    def active_run(self) -> Run:
        """The run under way; what asks for it is only called while there is one."""
        if self.run is None:
            raise RuntimeError(f"instance {self.row.name} has no run")
        return self.run

    @property
    def active_shim(self) -> Shim:
        """The shim of the run under way, likewise."""
        if self.shim is None:
            raise RuntimeError(f"instance {self.row.name} has no process")
        return self.shim

    # Operations

    async def start(self) -> None:
        """Begin a run and bring it to ready; the row is in a state to start from."""
        try:
            run = await self._begin_run()
        except NoPortLeft as error:
            await self._database(wishes.refuse_start, self.row.pk, actor=ACTOR, reason=str(error))
            return
        if run is not None:
            await self._spawn(run)

    async def resume_start(self) -> None:
        """Go on waiting for the readiness of a run that was adopted while starting."""
        if self.shim is None:
            state = read_state(launch.run_folder(self.active_run.token))
            vanished = replace(state, error="The process was gone when Corral came back.")
            if state.stop_requested:  # by `corral down`, which found no supervisor to ask
                await asyncio.to_thread(end_leftovers, launch.run_folder(self.active_run.token))
                await self._end_run(Ending(State.STOPPED, reason="Corral was shut down."), state.exit_code)
            else:
                await self._handle_exit(state if state.exited else vanished)
            return
        await self._await_ready()

    async def watch(self) -> None:
        """Wait for the process's end, or for an interruption."""
        ended = await self._first(self.active_shim.wait())
        if ended is not None:
            await self._handle_exit(ended)

    async def stop(self) -> None:
        """Take the route away, drain, end the process, confirm the port is free, and say so."""
        began = time.monotonic()
        if self.row.state != State.STOPPING:
            moved = await self._database(
                transition, self.row.pk, to=State.STOPPING, actor=ACTOR, reason=self.stop_reason, run=self.active_run
            )
            if not moved:
                return
        state = ShimState()
        if self.shim is not None:
            if self.row.state != State.STARTING:
                await self._drain(began, await self._database(read_change, self.row.pk))
            state = await end_process(self.active_shim, settings.CORRAL.stop_timeout)
        await asyncio.to_thread(end_leftovers, launch.run_folder(self.active_run.token))
        if not await wait_until_port_is_free(self.active_run.port, 5):
            logger.warning("instance %s: port %s is held by another program", self.row.name, self.active_run.port)
        await self._end_run(Ending(State.STOPPED, reason=self.stop_reason), state.exit_code)
        self.stop_reason, self.stop_drains_fully = "", False

    async def _drain(self, since: float, stopped_at: float) -> None:
        limit = None if self.stop_drains_fully else since + settings.CORRAL.drain_timeout
        while self.active_shim.is_alive() and not self.around.reports.is_drained(self.row.pk, since, stopped_at):
            if limit is not None and time.monotonic() >= limit:
                count = self.around.reports.in_flight(self.row.pk)
                logger.warning("instance %s: %s requests were cut off after the drain time", self.row.name, count)
                return
            await self.around.reports.wait_for_news(0.25)

    async def _begin_run(self) -> Run | None:
        port = self.row.port
        for _ in range(PORT_ATTEMPTS):
            if not self._may_take(port):
                port = await self._replace_port(port)
            try:
                run: Run | None = await self._database(runs.begin_run, instance_id=self.row.pk, port=port, actor=ACTOR)
            except IntegrityError:
                port = await self.around.choose_port()
                continue
            self.run = run
            return run
        raise NoPortLeft("Every port that was tried was taken by another instance in the same moment. Start it again.")

    def _may_take(self, port: int) -> bool:
        """Whether the port is free and, unless the user chose it, still in the range, which may have been changed."""
        return is_port_free(port) and (self.row.port_is_fixed or port in settings.CORRAL.ports)

    async def _replace_port(self, port: int) -> int:
        if self.row.port_is_fixed:
            # The user chose it: wait for whoever holds it, then let the engine say what is wrong.
            await wait_until_port_is_free(port, PORT_WAIT_S)
            return port
        return await self.around.choose_port()

    async def _spawn(self, run: Run, attempt: int = 1) -> None:
        try:
            prepared = await self._database(
                launch.prepare_run, instance=self.row, run=run, grace_s=settings.CORRAL.stop_timeout
            )
            self.shim = Shim.spawn(prepared.spec_path, run.token)
        except (OptionError, OSError) as error:
            await self._end_run(Ending(State.FAILED, reason=f"The engine could not be started: {error}"), None)
            return
        self._follow_log(prepared.log_path)
        identity = self.active_shim.identity
        process = runs.Process(identity.pid, identity.started, identity.boot_id)
        await self._database(runs.record_process, run_id=run.pk, process=process)
        await self._await_ready(attempt)

    async def _await_ready(self, attempt: int = 1) -> None:
        host, readiness = launch.describe_endpoint(self.row)
        limit = readiness.timeout_s or settings.CORRAL.start_timeout
        noted = asyncio.create_task(self._note_child(self.active_run, self.active_shim))
        ready = asyncio.create_task(wait_until_ready(host, self.active_run.port, readiness))
        ended = asyncio.create_task(self.active_shim.wait())
        try:
            interrupted = asyncio.create_task(self._interrupt.wait())
            done, _ = await asyncio.wait(
                {ready, ended, interrupted}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (noted, ready, ended, interrupted):
                task.cancel()
        if ended in done:
            await self._handle_exit(ended.result(), attempt)
        elif ready in done:
            await self._become_ready()
        elif not done:
            reason = f"The engine was not ready after {limit:g} s."
            state = await end_process(self.active_shim, settings.CORRAL.stop_timeout)
            await self._handle_exit(replace(state, error=reason))

    async def _note_child(self, run: Run, shim: Shim) -> None:
        """Show the engine's pid as soon as the shim knows it."""
        while (child_pid := read_state(shim.run_dir).child_pid) is None:  # noqa: ASYNC110  a file tells of no event
            await asyncio.sleep(0.02)
        await self._database(runs.record_child, run_id=run.pk, child_pid=child_pid)

    async def _become_ready(self) -> None:
        if await self._database(runs.mark_ready, run=self.active_run, actor=ACTOR):
            self.ready_since = self.used_at = time.monotonic()

    async def _handle_exit(self, state: ShimState, attempt: int = 1) -> None:
        """Decide what the end of the process means and write it down; take another port when ours was stolen."""
        await asyncio.to_thread(end_leftovers, launch.run_folder(self.active_run.token))
        starting = self.ready_since is None
        may_move = starting and not self.row.port_is_fixed and attempt < PORT_ATTEMPTS
        if may_move and not is_port_free(self.active_run.port):
            reason = f"Port {self.active_run.port} was taken by another program; trying another."
            run = await self._replace_run(reason)
            if run is not None:
                await self._spawn(run, attempt + 1)
                return
        tail = await self.log.last_lines() if self.log is not None else []
        wanted = await self._database(read_wish, self.row.pk)
        healthy = self.ready_since is not None and time.monotonic() - self.ready_since >= settings.CORRAL.healthy_after
        ending = judge_exit(
            options=self.row.options,
            restart_count=0 if healthy else self.row.restart_count,
            was_ready=not starting,
            is_wanted=wanted,
            exit_code=state.exit_code,
            error=state.error,
            could_run=state.could_run,
            tail=tail,
            zero_is_a_crash=get_backend(self.row.backend_type).zero_is_a_crash,
        )
        await self._end_run(ending, state.exit_code)

    async def _replace_run(self, reason: str) -> Run | None:
        self._close_log()
        port = await self.around.choose_port()
        old = self.active_run
        run: Run | None = await self._database(runs.replace_run, run=old, port=port, actor=ACTOR, reason=reason)
        if run is not None:
            launch.remove_run_files(old.token)
            self.run, self.row.port = run, port
        return run

    async def _end_run(self, ending: Ending, exit_code: int | None) -> None:
        restart_at = None
        if ending.restart_in_s is not None:
            self.restart_due = time.monotonic() + ending.restart_in_s
            restart_at = timezone.now() + timedelta(seconds=ending.restart_in_s)
            asyncio.get_running_loop().call_later(ending.restart_in_s, self.around.wake)
        await self._database(
            runs.end_run,
            run=self.active_run,
            to=ending.state,
            actor=ACTOR,
            reason=ending.reason,
            exit_code=exit_code,
            restart_count=ending.restart_count,
            restart_at=restart_at,
            desired_state=ending.desired_state,
        )
        self._close_log()
        launch.remove_run_files(self.active_run.token)
        if self.shim is not None:
            self.active_shim.close()
        self.run = self.shim = self.ready_since = None

    # Helpers

    def adopt(self, run: Run, shim: Shim | None) -> None:
        """Take over a run that an earlier supervisor began; ``shim`` is None when its process is gone."""
        self.run, self.shim = run, shim
        if self.row.state == State.READY:
            self.ready_since = time.monotonic()
        self._follow_log(launch.log_file(self.row.name, run.pk))

    async def give_up(self) -> None:
        """Stop following the run and leave its process alone: the supervisor ends, the models stay."""
        self.interrupt()
        await self.settle()
        if self.log is not None:
            await self.log.close(ended=False)
        if self._closing:
            await asyncio.wait(self._closing, timeout=5)
        if self.shim is not None:
            self.shim.close()

    def _follow_log(self, path: Path) -> None:
        self.log = RunLog(self.around.redis, self.active_run.pk, path)
        self.log.start()

    def _close_log(self) -> None:
        """Let the log's rest flow into the stream beside what comes next: a Redis that is away holds up no start."""
        if self.log is not None:
            closing = asyncio.create_task(self.log.close(ended=True))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self.log = None

    async def _first(self, waited: Coroutine[Any, Any, ShimState]) -> ShimState | None:
        """Await the coroutine; None when an interruption comes first."""
        task = asyncio.create_task(waited)
        interrupted = asyncio.create_task(self._interrupt.wait())
        try:
            await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            interrupted.cancel()

    async def _database(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await self.around.database.run(function, *args, **kwargs)


def read_change(instance_id: int) -> float:
    """When the instance's state last changed, in seconds since the epoch; 0 when it is gone."""
    changed_at = Instance.objects.filter(pk=instance_id).values_list("state_changed_at", flat=True).first()
    return changed_at.timestamp() if changed_at else 0.0


def read_wish(instance_id: int) -> bool:
    """Whether the instance is still wanted to run."""
    return Instance.objects.filter(pk=instance_id, desired_state=DesiredState.RUNNING).exists()
