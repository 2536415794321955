from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from instances.shim.state import read_boot_id
from tests.instances.shim.harness import MAIN, ShimRun, is_alive, wait_until

pytestmark = pytest.mark.any_database

SLEEP = "import signal; print('up'); signal.pause()"


def test_the_exit_code_of_the_child_is_recorded(run: ShimRun) -> None:
    run.start_python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    state = run.wait()
    assert (state["exit_code"], state["error"], state["stop_requested"]) == (7, None, None)
    assert state["started_at"] <= state["exited_at"]
    assert (run.read_text("stdout"), run.read_text("stderr")) == (b"out\n", b"err\n")


def test_a_death_by_signal_is_a_negative_exit_code(run: ShimRun) -> None:
    run.start_python("import os; os.kill(os.getpid(), 11)")
    assert run.wait()["exit_code"] == -11


def test_the_state_identifies_both_processes_as_psutil_does(run: ShimRun) -> None:
    run.start_python(SLEEP)
    child_pid = run.wait_for_state("child_pid")
    state = run.read_state()
    assert state["shim_pid"] == run.pid
    assert state["shim_create_time"] == pytest.approx(psutil.Process(run.pid).create_time(), abs=1.01)
    assert state["child_create_time"] == pytest.approx(psutil.Process(child_pid).create_time(), abs=1.01)
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    boot_time = state["child_create_time"] - state["child_start_ticks"] / ticks_per_second
    assert boot_time == pytest.approx(round(boot_time), abs=1e-3)
    assert state["boot_id"] == read_boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert state["token"] == run.token == psutil.Process(child_pid).environ()["CORRAL_RUN_TOKEN"]


def test_the_state_file_is_private(run: ShimRun) -> None:
    run.start_python("pass")
    run.wait()
    assert stat.S_IMODE(run.state_path.stat().st_mode) == 0o600
    assert sorted(path.name for path in run.folder.iterdir()) == ["spec.json", "state.json"]


def test_the_child_gets_its_environment_folder_and_nothing_else(run: ShimRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PORTAL", "x")
    folder = run.folder / "work"
    folder.mkdir()
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.argv[1:], sys.stdin.read()]))"
    argv = [sys.executable, "-I", "-S", "-c", code, "a b", "$HOME", "ü\udcff"]
    run.start(argv, environment={"LC_ALL": "C.UTF-8", "MODEL": "tiny ü"}, cwd=str(folder))
    run.wait()
    environment, cwd, arguments, stdin = json.loads(run.read_text("stdout"))
    assert environment == {"LC_ALL": "C.UTF-8", "MODEL": "tiny ü", "CORRAL_RUN_TOKEN": run.token}
    assert (cwd, arguments, stdin) == (str(folder), ["a b", "$HOME", "ü\udcff"], "")


def test_the_child_starts_with_default_signals_and_only_three_descriptors(run: ShimRun) -> None:
    run.start(["/bin/sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/$$/fd"])
    run.wait()
    blocked_name, blocked, ignored_name, ignored, *descriptors = run.read_text("stdout").split()
    assert (blocked_name, int(blocked, 16), ignored_name) == (b"SigBlk:", 0, b"SigIgn:")
    # Signals 32 and 33 are the C library's own and can't be changed, so they stay as whoever runs the tests has them.
    assert int(ignored, 16) & ~(0b11 << 31) == 0
    assert descriptors == [b"0", b"1", b"2"]


def test_the_child_leads_a_process_group_in_the_session_of_the_shim(run: ShimRun) -> None:
    run.start_python(SLEEP)
    child_pid = run.wait_for_state("child_pid")
    assert os.getpgid(child_pid) == child_pid
    assert os.getsid(child_pid) == os.getsid(run.pid) == run.pid


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["llama-server"], "No such file or directory: llama-server (not found in PATH)"),
        (["/nowhere/llama-server", "-m", "x"], "No such file or directory: /nowhere/llama-server"),
        (["/etc/passwd"], "Permission denied: /etc/passwd"),
    ],
)
def test_exec_failure_is_reported_with_its_reason(run: ShimRun, argv: list[str], error: str) -> None:
    run.start(argv)
    state = run.wait()
    assert state["error"] == error
    assert state["exited_at"] is not None
    assert (state["child_pid"], state["started_at"], state["exit_code"]) == (None, None, None)
    assert error.encode() in run.read_text("stderr")


def test_a_file_that_is_no_program_is_reported(run: ShimRun) -> None:
    program = run.folder / "engine"
    program.write_text("no program")
    program.chmod(0o700)
    run.start([str(program)])
    assert run.wait()["error"] == f"Exec format error: {program}"


def test_a_missing_working_directory_is_reported(run: ShimRun) -> None:
    run.start(["/bin/true"], cwd="/nowhere")
    assert run.wait()["error"] == "No such file or directory: /nowhere (the working directory)"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"argv": []}, "argv must name a program"),
        ({"argv": "llama-server"}, "argv must be a list of strings without NUL"),
        ({"argv": ["a\0b"]}, "argv must be a list of strings without NUL"),
        ({"environment": {"A": 1}}, "environment: the value of A must be a string without NUL"),
        ({"environment": {"A=B": "1"}}, "environment: 'A=B' can't be the name of a variable"),
        ({"environment": None}, "environment must be an object of strings"),
        ({"token": ""}, "token must be a non-empty string"),
        ({"log_path": "run.log"}, "log_path must be an absolute path, not 'run.log'"),
        ({"grace_s": -1}, "grace_s must be a number that is not negative"),
        ({"log_max_bytes": "1M"}, "log_max_bytes must be a number that is not negative"),
    ],
)
def test_a_wrong_spec_is_refused_with_a_sentence(run: ShimRun, change: dict[str, object], sentence: str) -> None:
    path = run.write_spec(**{"argv": ["/bin/true"], **change})
    result = subprocess.run([sys.executable, "-I", "-S", "-E", MAIN, path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, f"{path}: {sentence}\n")


@pytest.mark.parametrize(("content", "sentence"), [("{", "not valid JSON"), ("[]", "the spec must be a JSON object")])
def test_a_spec_that_is_no_object_is_refused(run: ShimRun, content: str, sentence: str) -> None:
    path = run.write_spec(["/bin/true"])
    path.write_text(content)
    result = subprocess.run([sys.executable, "-I", "-S", "-E", MAIN, path], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert sentence in result.stderr


def test_the_shim_outlives_its_parent_and_its_signals(run: ShimRun) -> None:
    spec_path = run.write_spec([sys.executable, "-I", "-S", "-u", "-c", SLEEP])
    starter = (
        "import subprocess, sys\n"
        "shim = subprocess.Popen(sys.argv[1:], start_new_session=True)\n"
        "print(shim.pid, flush=True)\n"
        "shim.wait()"
    )
    command = [sys.executable, "-I", "-S", "-c", starter, sys.executable, "-I", "-S", "-E", str(MAIN), str(spec_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        shim_pid = int(parent.stdout.readline())
        child_pid = run.wait_for_state("child_pid")
        parent.kill()
    try:
        for number in (1, 2):
            os.kill(shim_pid, number)
        run.wait_for_line(b"up")
        assert psutil.Process(shim_pid).ppid() != parent.pid
        assert is_alive(shim_pid)
        assert is_alive(child_pid)
        os.kill(shim_pid, 15)
        wait_until(lambda: run.read_state()["exited_at"], "the end of the run")
        assert run.read_state()["exit_code"] == -15
        wait_until(lambda: not is_alive(shim_pid), "the end of the shim")
    finally:
        if is_alive(shim_pid):
            os.kill(shim_pid, 9)


def test_shim_killed_takes_the_child_with_it(run: ShimRun) -> None:
    run.start_python("import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('up')\nwhile True: signal.pause()")
    run.wait_for_line(b"up")
    child_pid = run.read_state()["child_pid"]
    run.signal(9)
    wait_until(lambda: not is_alive(child_pid), "the death of the child")


def test_memory_is_under_15_mb(run: ShimRun) -> None:
    run.start_python(
        "print('x' * 79 + '\\n', end='' * 1)\nprint(('y' * 99 + '\\n') * 50000)\nimport signal; signal.pause()"
    )
    run.wait_for_line(b"y{99}\n\n")
    assert psutil.Process(run.pid).memory_info().rss < 15 * 1024 * 1024


def test_a_failure_of_the_shim_itself_ends_the_child_and_is_told(run: ShimRun) -> None:
    spec_path = run.write_spec([sys.executable, "-I", "-S", "-u", "-c", SLEEP])
    code = (
        "import sys\n"
        "from instances.shim.spec import Spec\n"
        "from instances.shim.supervision import Supervision\n"
        "def fail(self): raise RuntimeError('out of luck')\n"
        "Supervision._reap = fail\n"
        "sys.exit(Supervision(Spec.read(sys.argv[1])).run())"
    )
    root = MAIN.parents[2]
    result = subprocess.run([sys.executable, "-S", "-c", code, spec_path], cwd=root, check=False)
    assert result.returncode == 1
    state = run.read_state()
    assert state["error"].startswith("the shim failed in <string>:4: RuntimeError('out of luck')")
    assert state["error"].encode() in run.read_text("stderr")
    wait_until(lambda: not is_alive(state["child_pid"]), "the end of the child")
