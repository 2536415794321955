"""The life of one backend, from its start to the last byte of its log."""

from __future__ import annotations

import os
import signal
import time

from instances.shim.log import LogWriter, Stamps
from instances.shim.processes import (
    DescendantTree,
    GroupTree,
    StartError,
    become_subreaper,
    start_program,
)
from instances.shim.pump import Pump
from instances.shim.rotation import Rotation
from instances.shim.spec import Spec
from instances.shim.state import StateFile, read_create_time, read_start_ticks

LEFTOVER_GRACE_S = 2.0  # for descendants that outlive the backend itself
# Together with the leftover grace these stay below the 15 s that the supervisor allows a shim beyond its grace.
CLEANUP_S = 8.0
DRAIN_S = 1.0  # output still in the pipes, should somebody outside the tree hold them open
FINISH_S = 3.0  # the last state on a full disk, the last part being compressed: it stays plain if that takes longer
SCAN_S = 0.05
OUTPUT_BYTES = 65536  # what a pipe holds: the clean-up command's output waits there until it is known to be of interest

RUNNING, STOPPING, SWEEPING, KILLING, CLEANING, DRAINING, OVER = range(7)


class Supervision:
    """Runs the backend of a spec. `run` may be called once, from the main thread."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._state = StateFile(spec.state_path, spec.token)
        self._rotation = Rotation(spec.log_path, spec.log_max_bytes, spec.log_max_files, spec.log_compress)
        stamps = Stamps()
        self._log = LogWriter(self._rotation, stamps)
        self._pump = Pump(self._log, stamps)
        self._tree: DescendantTree | GroupTree = DescendantTree(self._list_helpers)
        self._phase = RUNNING
        self._deadline = float("inf")
        self._child = 0
        self._exit_code: int | None = None
        self._command = 0  # pid of the stop or clean-up command while it runs
        self._command_failed = False
        self._held_back = -1  # reading end of the clean-up command's output
        self._stop_signal = 0

    def run(self) -> int:
        """Start the backend and stay until nothing of it is left; the shim's exit status."""
        _detach()
        is_subreaper = become_subreaper()
        self._pump.watch_signals((signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT))
        try:
            if self._start_child():
                if not is_subreaper:
                    self._tree = GroupTree(self._child)
                self._supervise()
            self._finish()
            return 0
        except BaseException as error:  # noqa: BLE001  (no backend may stay behind without its shim, whatever happened)
            reason = f"the shim failed in {_describe_origin(error)}: {error!r}"
            self._log.note(reason)
            self._state.write(error=reason)
            self._tree.send(signal.SIGKILL)
            self._state.write(exited_at=time.time())
            return 1

    def _start_child(self) -> bool:
        spec = self._spec
        stdout, stderr = self._pump.add_stream(b"stdout"), self._pump.add_stream(b"stderr")
        try:
            self._child = start_program(spec.argv, spec.environment, spec.cwd, stdout, stderr)
        except StartError as error:
            self._log.note(f"the backend could not be started: {error}")
            self._state.fields["error"] = str(error)
            return False
        finally:
            os.close(stdout)
            os.close(stderr)
        self._state.write(
            started_at=time.time(),
            child_pid=self._child,
            child_create_time=read_create_time(self._child),
            child_start_ticks=read_start_ticks(self._child),
        )
        return True

    def _supervise(self) -> None:
        scan = SCAN_S
        while True:
            before = self._phase
            self._advance()
            if self._phase == OVER:
                return
            if self._phase != before:
                scan = SCAN_S
                continue
            timeout = self._deadline - time.monotonic()
            if self._phase in (SWEEPING, KILLING):
                timeout = min(timeout, scan)
                # Processes that even SIGKILL doesn't end (stuck in a driver) are waited for, but not with a busy loop.
                scan = min(scan * 2, 1.0)
            for number in self._pump.wait(timeout):
                self._note_signal(number)
            self._reap()

    def _note_signal(self, number: int) -> None:
        if number == signal.SIGCHLD or self._stop_signal in (number, signal.SIGQUIT):
            return
        self._stop_signal = number
        self._state.write(stop_requested="kill" if number == signal.SIGQUIT else "term")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self._child:
                self._exit_code = code
                self._state.write(exit_code=code)
            elif pid == self._command:
                self._command = 0
                self._command_failed = code != 0
                self._state.fields["cleaned_up"] = self._phase == CLEANING and code == 0
                if code:
                    self._log.note(f"the command for {self._describe_phase()} ended with {code}")
                self._release_output(is_wanted=code != 0)
            elif pid == self._rotation.compressor_pid:
                self._rotation.finish_compressing(code == 0)

    def _describe_phase(self) -> str:
        return "cleaning up" if self._phase == CLEANING else "stopping"

    def _advance(self) -> None:
        """Take the one step that is due, if any."""
        expired = time.monotonic() >= self._deadline
        if self._phase in (RUNNING, STOPPING) and self._exit_code is not None:
            self._enter_sweeping()
        elif self._phase in (STOPPING, SWEEPING) and (expired or self._stop_signal == signal.SIGQUIT):
            self._enter(KILLING)
        elif self._phase == CLEANING and (expired or not self._command):
            self._kill_tree()
            self._enter(DRAINING, DRAIN_S)
        elif self._phase == DRAINING and (expired or not self._pump.has_streams()):
            self._enter(OVER)
        else:
            self._continue()

    def _continue(self) -> None:
        """What a phase does while nothing else has ended it."""
        if self._phase == RUNNING and self._stop_signal:
            self._enter_stopping()
        elif self._phase == STOPPING and self._command_failed:
            self._command_failed = False
            self._tree.send(signal.SIGTERM)
        elif self._phase == KILLING:
            self._kill_tree()
        if self._phase in (SWEEPING, KILLING) and self._exit_code is not None and self._is_alone():
            self._enter_cleaning()

    def _is_alone(self) -> bool:
        return not self._command and not self._tree.list_alive()

    def _enter(self, phase: int, seconds: float = float("inf")) -> None:
        self._phase = phase
        self._deadline = time.monotonic() + seconds

    def _enter_stopping(self) -> None:
        self._enter(STOPPING, 0 if self._stop_signal == signal.SIGQUIT else self._spec.grace_s)
        if self._stop_signal == signal.SIGQUIT:
            return
        argv = [part.replace("${PID}", str(self._child)) for part in self._spec.stop_argv]
        if not argv or not self._start_command(argv, self._pump.add_stream(b"stderr")):
            self._tree.send(signal.SIGTERM)

    def _enter_sweeping(self) -> None:
        self._enter(SWEEPING, LEFTOVER_GRACE_S)
        self._tree.send(signal.SIGTERM)

    def _enter_cleaning(self) -> None:
        self._enter(CLEANING, CLEANUP_S)
        if self._spec.cleanup_argv:
            self._held_back, output = os.pipe()
            os.set_blocking(self._held_back, False)
            if not self._start_command(self._spec.cleanup_argv, output):
                self._release_output(is_wanted=False)

    def _release_output(self, *, is_wanted: bool) -> None:
        """Log what the clean-up command said when it failed.

        What a successful one says, such as that there is no such container any more, would only be taken for an error
        of the engine: it would be the last line of its log.
        """
        if self._held_back < 0:
            return
        try:
            text = os.read(self._held_back, OUTPUT_BYTES) if is_wanted else b""
        except BlockingIOError:
            text = b""
        os.close(self._held_back)
        self._held_back = -1
        for line in text.decode("utf-8", "replace").splitlines():
            self._log.note(line)

    def _start_command(self, argv: list[str], output: int) -> bool:
        try:
            self._command = start_program(argv, self._spec.environment, self._spec.cwd, output, output)
        except StartError as error:
            self._log.note(f"the command for {self._describe_phase()} could not be started: {error}")
            return False
        finally:
            os.close(output)
        return True

    def _kill_tree(self) -> None:
        self._tree.send(signal.SIGKILL)
        if self._command:
            os.kill(self._command, signal.SIGKILL)

    def _list_helpers(self) -> set[int]:
        """Children of the shim that are not the backend's: they are never signalled with its tree."""
        return {pid for pid in (self._command, self._rotation.compressor_pid) if pid}

    def _finish(self) -> None:
        self._pump.close()
        if self._held_back >= 0:
            self._log.note(f"the command for cleaning up was killed after {CLEANUP_S:g} s")
            self._release_output(is_wanted=True)
        self._log.close()
        self._state.fields["log_lost_bytes"] = self._log.lost_bytes
        deadline = time.monotonic() + FINISH_S
        while not self._state.write(exited_at=time.time()) and time.monotonic() < deadline:
            self._pump.wait(SCAN_S)
        while self._rotation.compressor_pid and time.monotonic() < deadline:
            self._pump.wait(deadline - time.monotonic())
            self._reap()
        if self._rotation.compressor_pid:
            os.kill(self._rotation.compressor_pid, signal.SIGKILL)
            self._rotation.finish_compressing(succeeded=False)


def _describe_origin(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "an unknown place"


def _detach() -> None:
    """Leave the session, the standard streams and the folder of whoever started the shim."""
    if os.getsid(0) != os.getpid() and os.getpgrp() != os.getpid():
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")
