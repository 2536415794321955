from __future__ import annotations

import gzip
import re
import resource
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.shim.log import MAX_RECORD_TEXT, LineFormatter, Stamps
from tests.instances.shim.harness import ShimRun, join_text, parse_records, wait_until

pytestmark = pytest.mark.any_database

# A program that begins with this waits for SIGUSR1 where it says wait().
WAITS = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def wait(): signal.sigwait([signal.SIGUSR1])
"""
STAMP = b"2026-11-20T23:39:17.123456789Z"


def test_lines_are_stamped_in_the_cri_format(run: ShimRun) -> None:
    before = datetime.now(UTC)
    run.start_python("import sys; print('one'); print(); print('ü two'); print('three', file=sys.stderr)")
    run.wait()
    records = run.read_records()
    assert [record[1:] for record in records if record[1] == "stdout"] == [
        ("stdout", "F", b"one"),
        ("stdout", "F", b""),
        ("stdout", "F", "ü two".encode()),
    ]
    assert [record[1:] for record in records if record[1] == "stderr"] == [("stderr", "F", b"three")]
    for stamp, *_ in records:
        moment = datetime.fromisoformat(stamp[:26] + "Z")
        assert before - timedelta(seconds=1) <= moment <= datetime.now(UTC)


def test_a_prompt_without_a_line_end_appears_soon(run: ShimRun) -> None:
    run.start_python(WAITS + "print('ready> ', end='')\nwait()\nprint('go')")
    record = wait_until(run.read_records, "the prompt")[0]
    assert record[1:] == ("stdout", "P", b"ready> ")
    psutil.Process(run.wait_for_state("child_pid")).send_signal(signal.SIGUSR1)
    run.wait()
    assert run.read_text("stdout") == b"ready> go\n"


def test_a_progress_bar_is_shown_while_it_grows_and_keeps_its_carriage_returns(run: ShimRun) -> None:
    run.start_python("import time\nfor i in range(8): print(f'\\r{i}0 %', end=''); time.sleep(0.1)\nprint()")
    run.wait()
    records = run.read_records()
    assert [kind for _, _, kind, _ in records].count("P") >= 2
    assert run.read_text("stdout") == b"".join(b"\r%d0 %%" % i for i in range(8)) + b"\n"


def test_last_words_without_a_line_end_are_kept(run: ShimRun) -> None:
    run.start_python("import os; os.write(2, b'fatal: no memory'); os._exit(1)")
    run.wait()
    assert [record[1:] for record in run.read_records()] == [("stderr", "F", b"fatal: no memory")]


def test_a_line_of_ten_megabytes_is_kept_whole(run: ShimRun) -> None:
    """llamactl 11.2-17: a line over 64 KiB ended the log."""
    run.start_python("print('begin'); print('x' * 10_000_000); print('end')")
    run.wait()
    records = run.read_records()
    assert join_text(records, "stdout") == b"begin\n" + b"x" * 10_000_000 + b"\nend\n"
    assert max(len(text) for *_, text in records) <= MAX_RECORD_TEXT


def test_a_hundred_thousand_lines_cost_little(run: ShimRun) -> None:
    run.start_python("print(('x' * 79 + '\\n') * 100_000, end=''); print('end'); import signal; signal.pause()")
    wait_until(lambda: run.log_path.exists() and b"F end\n" in run.log_path.read_bytes()[-200:], "the last line")
    used = psutil.Process(run.pid).cpu_times()
    assert run.read_text("stdout") == b"x" * 79 + b"\n" + (b"x" * 79 + b"\n") * 99_999 + b"end\n"
    assert used.user + used.system < 1.0


def test_a_steady_trickle_is_gathered(run: ShimRun) -> None:
    code = """
import os, time
start = time.monotonic()
for number in range(10_000):
    os.write(2, b"line %d\\n" % number)
    wait = start + number / 10_000 - time.monotonic()
    if wait > 0: time.sleep(wait)
os.write(1, b"end\\n")
import signal; signal.pause()
"""
    run.start_python(code)
    run.wait_for_line(b"end\n")
    wait_until(lambda: run.read_text("stderr").endswith(b"line 9999\n"), "the last line")
    used = psutil.Process(run.pid).cpu_times()
    assert run.read_text("stderr") == b"".join(b"line %d\n" % number for number in range(10_000))
    # Ten thousand turns of the loop would cost more than a second here.
    assert used.user + used.system < 0.5


def test_rotation_keeps_offsets_continuous(run: ShimRun) -> None:
    run.start_python("for number in range(60_000): print(f'line {number}', flush=True)", log_max_bytes=400_000)
    run.wait()
    parts = sorted(run.log_path.parent.glob("7.log.*"), key=lambda part: int(part.suffix[1:]))
    assert len(parts) > 3
    content = b""
    for part in parts:
        assert int(part.suffix[1:]) == len(content)
        assert part.stat().st_size <= 400_000
        content += part.read_bytes()
    content += run.log_path.read_bytes()
    assert join_text(parse_records(content), "stdout") == b"".join(b"line %d\n" % n for n in range(60_000))


def test_old_parts_are_deleted(run: ShimRun) -> None:
    neighbour = run.folder / "logs" / "77.log.0"
    neighbour.parent.mkdir()
    neighbour.write_text("of another run")
    run.start_python("for number in range(20_000): print(f'line {number}')", log_max_bytes=100_000, log_max_files=2)
    run.wait()
    first, second = sorted(run.log_path.parent.glob("7.log.*"), key=lambda part: int(part.suffix[1:]))
    assert int(first.suffix[1:]) > 0
    assert int(second.suffix[1:]) == int(first.suffix[1:]) + first.stat().st_size
    text = join_text(parse_records(first.read_bytes() + second.read_bytes() + run.log_path.read_bytes()), "stdout")
    assert text.endswith(b"line 19999\n")
    assert neighbour.exists()


def test_rotated_parts_are_compressed(run: ShimRun) -> None:
    run.start_python("for number in range(20_000): print(f'line {number}')", log_max_bytes=200_000, log_compress=True)
    run.wait()
    parts = sorted(run.log_path.parent.glob("7.log.*"), key=lambda part: int(part.name.split(".")[2]))
    content = b""
    for part in parts:
        assert part.name == f"7.log.{len(content)}.gz"
        content += gzip.decompress(part.read_bytes())
    content += run.log_path.read_bytes()
    assert join_text(parse_records(content), "stdout") == b"".join(b"line %d\n" % n for n in range(20_000))


def test_a_deleted_live_file_comes_back_with_the_next_rotation(run: ShimRun) -> None:
    run.start_python(WAITS + "print('x' * 900)\nwait()\nprint('y' * 900)\nprint('z' * 900)", log_max_bytes=1000)
    run.wait_for_line(b"x\n")
    run.log_path.unlink()
    psutil.Process(run.wait_for_state("child_pid")).send_signal(signal.SIGUSR1)
    run.wait()
    assert b"z" * 900 in run.log_path.read_bytes()


def test_a_full_disk_loses_log_lines_but_not_the_child(run: ShimRun) -> None:
    code = """
import os
print("before")
wait()
for number in range(2000): os.write(1, b"lost %d\\n" % number + b"x" * 100 + b"\\n")
os.write(2, b"still here\\n")
wait()
print("after")
wait()
"""
    run.start_python(WAITS + code)
    run.wait_for_line(b"before\n")
    child = psutil.Process(run.wait_for_state("child_pid"))
    full = run.log_path.stat().st_size + 5_000
    # The kernel refuses writes beyond this size, as it does on a full disk, and can be told to accept them again.
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    child.send_signal(signal.SIGUSR1)
    wait_until(lambda: run.log_path.stat().st_size == full, "the log to be as large as it may be")
    # It only waits for the second signal when all its output, more than a pipe holds, was taken from it.
    wait_until(lambda: _waits_for_a_signal(child), "the child to come through")
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    child.send_signal(signal.SIGUSR1)
    wait_until(lambda: b"F after\n" in run.log_path.read_bytes(), "the log to go on")
    assert run.log_path.stat().st_size > full
    child.send_signal(signal.SIGUSR1)
    state = run.wait()
    assert state["exit_code"] == 0
    lines = run.log_path.read_bytes().splitlines()
    report = next(number for number, line in enumerate(lines) if b"bytes of log were lost" in line)
    loss = re.fullmatch(rb"\S+ stderr F corral: (\d+) bytes of log were lost: File too large", lines[report])
    assert loss
    # What was cut short stands alone on its line, and what follows is sound.
    assert parse_records(b"\n".join(lines[: report - 1]) + b"\n")
    # Two pipes have no common order, so the line of the other stream may come last.
    assert ("stdout", "F", b"after") in [record[1:] for record in parse_records(b"\n".join(lines[report:]) + b"\n")]
    assert state["log_lost_bytes"] == int(loss[1]) > 2000 * 100


def _waits_for_a_signal(child: psutil.Process) -> bool:
    # rt_sigtimedwait on x86-64 and arm64
    return Path(f"/proc/{child.pid}/syscall").read_text(encoding="ascii").split()[0] in ("128", "137")


def test_a_log_that_never_works_does_not_touch_the_child(run: ShimRun) -> None:
    run.start_python("import sys; print('x' * 1_000_000); sys.exit(6)", log_path="/dev/full")
    state = run.wait()
    assert state["exit_code"] == 6
    assert state["log_lost_bytes"] > 1_000_000


def test_a_state_that_can_not_be_replaced_is_overwritten_in_place(run: ShimRun) -> None:
    run.start_python(WAITS + "print('up')\nwait()")
    run.wait_for_line(b"up")
    child_pid = run.wait_for_state("child_pid")
    # A folder of that name refuses the new file as a full disk would.
    (run.folder / "state.json.tmp").mkdir()
    psutil.Process(child_pid).send_signal(signal.SIGUSR1)
    state = run.wait()
    assert (state["exit_code"], state["exited_at"] is not None) == (0, True)


def _clock(*seconds: float) -> Iterator[int]:
    return iter([int(second * 1_000_000_000) for second in seconds])


def test_the_clock_jumps_back_and_the_stamps_do_not() -> None:
    day = 86_400.0
    wall = _clock(day + 100, day + 101, day - 3600, day - 3598, day + 101.5, day + 200)
    monotonic = _clock(0, 1, 2, 4, 6, 8)
    stamps = Stamps(lambda: next(wall), lambda: next(monotonic))
    assert [stamps.next() for _ in range(6)] == [
        b"1970-01-02T00:01:40.000000000Z",
        b"1970-01-02T00:01:41.000000000Z",
        b"1970-01-02T00:01:41.500000000Z",
        b"1970-01-02T00:01:42.500000000Z",
        b"1970-01-02T00:01:43.500000000Z",
        b"1970-01-02T00:03:20.000000000Z",
    ]


@given(st.lists(st.tuples(st.integers(0, 10**19), st.integers(0, 10**12)), min_size=2))
def test_the_clock_jumps_anywhere_and_stamps_stay_in_order(readings: list[tuple[int, int]]) -> None:
    walls = iter([wall for wall, _ in readings])
    elapsed = [step for _, step in readings]
    monotonics = iter([sum(elapsed[: index + 1]) for index in range(len(elapsed))])
    stamps = Stamps(lambda: next(walls), lambda: next(monotonics))
    made = [stamps.next() for _ in readings]
    assert all(earlier <= later for earlier, later in pairwise(made))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"\n", b"\r", b"\n\n", b"a\r\nb", b"x" * MAX_RECORD_TEXT, b"y" * (MAX_RECORD_TEXT + 1)]),
            st.just(None),
        )
    )
)
def test_records_give_back_every_byte(steps: list[bytes | None]) -> None:
    formatter = LineFormatter(b"stdout")
    content = b""
    for step in steps:
        if step is not None:
            content += formatter.feed(step, STAMP, 0.0)
        elif formatter.flush_at() is not None:
            content += formatter.flush(STAMP)
    content += formatter.close(STAMP)
    written = b"".join(step for step in steps if step)
    records = parse_records(content)
    assert join_text(records, "stdout") == written + (b"\n" if written and not written.endswith(b"\n") else b"")
    assert all(len(text) <= MAX_RECORD_TEXT for *_, text in records)


def test_the_age_of_an_unfinished_line_counts_from_its_first_byte() -> None:
    formatter = LineFormatter(b"stdout")
    formatter.feed(b"a", STAMP, 10.0)
    formatter.feed(b"b", STAMP, 10.1)
    assert formatter.flush_at() == pytest.approx(10.2)
    formatter.feed(b"\nc", STAMP, 10.15)
    assert formatter.flush_at() == pytest.approx(10.35)
    formatter.flush(STAMP)
    assert formatter.flush_at() is None
    assert formatter.feed(b"d\n", STAMP, time.monotonic()) == STAMP + b" stdout F d\n"
