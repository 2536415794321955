from __future__ import annotations

import re
import signal
import socket
import sys
import time

import pytest

from tests.instances.shim.harness import ShimRun, is_alive, wait_until

pytestmark = pytest.mark.any_database

IGNORES_TERM = "import signal\nsignal.signal(15, lambda *a: print('no'))\nprint('up')\nwhile True: signal.pause()"
SLEEP = "import signal; print('up'); signal.pause()"
# A child in its own process group, one in its own session, and an orphan of a double fork; each says its pid.
FAMILY = """
import os, signal, sys
def live(name):
    HANDLER
    os.write(1, f"{name} {os.getpid()}\\n".encode())
    while True: signal.pause()
if os.fork() == 0:
    os.setpgid(0, 0)
    live("group")
if os.fork() == 0:
    os.setsid()
    live("session")
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        os.setsid()
        live("orphan")
    os._exit(0)
os.waitpid(middle, 0)
"""


def wait_for_family(run: ShimRun) -> list[int]:
    return [int(run.wait_for_line(name + rb" (\d+)\n")[1]) for name in (b"group", b"session", b"orphan")]


def test_stop_ends_the_child_by_term(run: ShimRun) -> None:
    run.start_python("import signal, sys\nsignal.signal(15, lambda *a: sys.exit(3))\nprint('up')\nsignal.pause()")
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    state = run.wait()
    assert (state["exit_code"], state["stop_requested"]) == (3, "term")


def test_term_is_sent_once_to_each_process(run: ShimRun) -> None:
    count = "signal.signal(15, lambda *a: os.write(1, f'got {name}\\n'.encode()))"
    run.start_python(FAMILY.replace("HANDLER", count) + "\nlive('main')", grace_s=0.5)
    wait_for_family(run)
    run.wait_for_line(rb"main \d+\n")
    run.signal(signal.SIGTERM)
    run.signal(signal.SIGTERM)
    run.wait()
    got = sorted(line for line in run.read_text("stdout").splitlines() if line.startswith(b"got"))
    assert got == [b"got group", b"got main", b"got orphan", b"got session"]


def test_a_child_that_ignores_term_is_killed_after_the_grace(run: ShimRun) -> None:
    run.start_python(IGNORES_TERM, grace_s=0.6)
    run.wait_for_line(b"up")
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    run.wait_for_line(b"no")
    state = run.wait()
    assert time.monotonic() - began >= 0.6
    assert state["exit_code"] == -9


def test_a_second_term_does_not_shorten_the_grace(run: ShimRun) -> None:
    run.start_python(IGNORES_TERM, grace_s=1)
    run.wait_for_line(b"up")
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    run.wait_for_line(b"no")
    run.signal(signal.SIGTERM)
    run.wait()
    assert time.monotonic() - began >= 1


def test_quit_kills_at_once(run: ShimRun) -> None:
    run.start_python(FAMILY.replace("HANDLER", "signal.signal(15, signal.SIG_IGN)") + "\nlive('main')", grace_s=60)
    family = wait_for_family(run)
    run.signal(signal.SIGQUIT)
    state = run.wait()
    assert (state["exit_code"], state["stop_requested"]) == (-9, "kill")
    assert not any(map(is_alive, family))


def test_quit_ends_the_grace_of_a_stop(run: ShimRun) -> None:
    run.start_python(IGNORES_TERM, grace_s=60)
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    run.wait_for_line(b"no")
    run.signal(signal.SIGQUIT)
    state = run.wait()
    assert (state["exit_code"], state["stop_requested"]) == (-9, "kill")


def test_forked_and_setsid_grandchildren_die_with_the_stop(run: ShimRun) -> None:
    run.start_python(FAMILY.replace("HANDLER", "pass") + "\nlive('main')")
    family = wait_for_family(run)
    assert all(map(is_alive, family))
    run.signal(signal.SIGTERM)
    assert run.wait()["exit_code"] == -15
    assert not any(map(is_alive, family))


def test_grandchildren_that_ignore_term_die_with_the_stop(run: ShimRun) -> None:
    run.start_python(FAMILY.replace("HANDLER", "signal.signal(15, signal.SIG_IGN)") + "\nlive('main')", grace_s=0.3)
    family = wait_for_family(run)
    run.signal(signal.SIGTERM)
    run.wait()
    assert not any(map(is_alive, family))


def test_what_a_child_leaves_behind_when_it_exits_is_ended(run: ShimRun) -> None:
    handler = "signal.signal(15, signal.SIG_IGN) if name == 'orphan' else None"
    release = run.folder / "release"
    wait = f"import time\nwhile not os.path.exists({str(release)!r}): time.sleep(0.01)"
    run.start_python(f"{FAMILY.replace('HANDLER', handler)}\n{wait}\nsys.exit(4)")
    family = wait_for_family(run)
    release.touch()
    assert wait_until(lambda: run.read_state()["exit_code"], "the exit code") == 4
    # The code is told at once, the end only when the last one is gone.
    assert run.read_state()["exited_at"] is None
    run.wait()
    assert not any(map(is_alive, family))


def test_a_process_that_forks_all_the_time_dies_as_well(run: ShimRun) -> None:
    code = """
import os, signal, sys, time
signal.signal(15, signal.SIG_IGN)
print("up")
end = time.monotonic() + 60
while time.monotonic() < end:
    if os.fork():
        time.sleep(0.002)
        os._exit(0)
    os.setsid()
"""
    run.start_python(f"import os\nif os.fork():\n    import signal\n    signal.pause()\n{code}", grace_s=0.2)
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    run.wait()


def test_a_stop_command_replaces_term_and_knows_the_pid(run: ShimRun) -> None:
    run.start_python(
        "import signal, sys\nsignal.signal(10, lambda *a: sys.exit(5))\nsignal.signal(15, lambda *a: print('term'))\n"
        "print('up')\nwhile True: signal.pause()",
        stop_argv=["/bin/sh", "-c", "echo stopping ${PID}; kill -USR1 ${PID}"],
    )
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    state = run.wait()
    assert state["exit_code"] == 5
    assert f"stopping {state['child_pid']}\n".encode() in run.read_text("stderr")
    assert b"term" not in run.read_text("stdout")


@pytest.mark.parametrize("stop_argv", [["/bin/false"], ["no-such-program"]])
def test_a_stop_command_that_fails_is_followed_by_term(run: ShimRun, stop_argv: list[str]) -> None:
    run.start_python(SLEEP, stop_argv=stop_argv)
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    assert run.wait()["exit_code"] == -15
    assert b"corral: the command for stopping" in run.read_text("stderr")


def test_a_stop_command_that_hangs_is_bounded_by_the_grace(run: ShimRun) -> None:
    run.start_python(SLEEP, stop_argv=["/bin/sleep", "60"], grace_s=0.4)
    run.wait_for_line(b"up")
    run.signal(signal.SIGTERM)
    assert run.wait()["exit_code"] == -9


def test_the_cleanup_command_runs_after_everything_else(run: ShimRun) -> None:
    run.start_python(
        FAMILY.replace("HANDLER", "pass") + "\nlive('main')",
        cleanup_argv=[
            "/bin/sh",
            "-c",
            "grep -lz CORRAL_RUN_TOKEN=$CORRAL_RUN_TOKEN /proc/[0-9]*/environ; echo $$ clean; exit 1",
        ],
    )
    wait_for_family(run)
    run.signal(signal.SIGTERM)
    run.wait()
    own = run.wait_for_line(rb"(\d+) clean")[1].decode()
    holders = set(re.findall(r"^corral: /proc/(\d+)/environ$", run.read_text("stderr").decode(), re.MULTILINE))
    # Beside the command itself only its grep, gone by now, had the token.
    assert own in holders
    assert not [pid for pid in holders - {own} if is_alive(int(pid))]
    assert len(holders) <= 2


def test_a_leaked_pipe_does_not_keep_the_shim(run: ShimRun) -> None:
    receiver = run.folder / "socket"
    leak = (
        "import socket, os\ns = socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(receiver)!r})\nsocket.send_fds(s, [b'x'], [1])\nprint('leaked')\ns.recv(1)"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(receiver))
        listener.listen()
        run.start([sys.executable, "-u", "-c", leak])
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
            connection.send(b"x")
            state = run.wait()
    assert len(descriptors) == 1
    assert state["exit_code"] == 0
    assert run.read_text("stdout") == b"leaked\n"


def test_a_cleanup_command_that_hangs_is_killed(run: ShimRun) -> None:
    began = time.monotonic()
    run.start(["/bin/true"], cleanup_argv=["/bin/sh", "-c", "trap '' TERM; echo hanging; sleep 60 & wait"])
    state = run.wait()
    assert 8 <= time.monotonic() - began < 50  # it would have slept for a minute
    assert (state["exit_code"], state["cleaned_up"]) == (0, False)
    assert run.read_text("stderr") == b"corral: the command for cleaning up was killed after 8 s\ncorral: hanging\n"


def test_what_a_cleanup_command_that_succeeds_says_is_not_taken_for_the_engines_last_words(run: ShimRun) -> None:
    """`docker rm -f` of a container that is gone already says "Error response from daemon" and succeeds."""
    run.start(["/bin/echo", "bye"], cleanup_argv=["/bin/sh", "-c", "echo Error response from daemon >&2"])
    assert run.wait()["cleaned_up"]
    assert (run.read_text("stdout"), run.read_text("stderr")) == (b"bye\n", b"")


def test_a_cleanup_command_that_is_missing_is_told(run: ShimRun) -> None:
    run.start(["/bin/true"], cleanup_argv=["/nowhere/docker", "rm"])
    run.wait()
    assert run.read_text("stderr").startswith(b"corral: the command for cleaning up could not be started: No such file")
