"""``GET .../logs?lines=``: one look at an instance's log, here or on another node."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from pytest_django import Settings

from instances.errors import NodeUnavailable
from instances.logs.errors import LogUnavailable
from instances.logs.reader import read_encoded_tail, read_last_lines
from instances.models import Instance
from tests.instances.logs.conftest import StartRun

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def test_an_instance_that_never_ran_has_an_empty_log(instance: Instance) -> None:
    assert read_last_lines(instance, None, None) == ""
    assert read_last_lines(instance, 5, "stdout") == ""


def test_the_last_lines_come_without_a_line_end(instance: Instance, start_run: StartRun) -> None:
    start_run()[1].write_lines(0, 50)
    assert read_last_lines(instance, 2, None) == "line 48\nline 49"


def test_runs_read_as_one_file_with_llamactls_markers(instance: Instance, start_run: StartRun) -> None:
    start_run()[1].write_lines(0, 2)
    start_run()[1].write_lines(2, 1)
    expected = (
        f"=== Instance llama started at {MOMENT} ===\nline 0\nline 1\n=== Instance llama stopped at {MOMENT} ===\n"
        f"\n=== Instance llama started at {MOMENT} ===\nline 2"
    )
    for lines in (None, 0, -1):
        assert re.fullmatch(expected, read_last_lines(instance, lines, None))
    assert re.fullmatch(f"=== Instance llama started at {MOMENT} ===\nline 2", read_last_lines(instance, 2, None))
    assert re.fullmatch("line 1\n=== [^\n]+ ===\n\n=== [^\n]+ ===\nline 2", read_last_lines(instance, 5, None))


def test_one_stream_comes_without_markers(instance: Instance, start_run: StartRun) -> None:
    for _ in range(2):
        log = start_run()[1]
        log.write("out\n")
        log.write("err\n", "stderr")
    assert read_last_lines(instance, None, "stderr") == "err\nerr"


def test_timestamps_stand_before_the_lines(instance: Instance, start_run: StartRun) -> None:
    start_run()[1].write("hello\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z hello", read_last_lines(instance, 1, None, True))


def test_a_log_too_large_for_one_look_says_what_is_left_out(
    instance: Instance, start_run: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = start_run()[1]
    for first in range(0, 400_000, 10_000):
        log.write_lines(first, 10_000)
    text = read_last_lines(instance, None, None)
    first_line, rest = text.split("\n", 1)
    assert re.fullmatch(r"=== \d+ bytes of older log are left out ===", first_line)
    assert len(rest) < 16 * 2**20
    assert text.endswith("line 399999")
    assert read_last_lines(instance, 3, None) == "line 399997\nline 399998\nline 399999"


def test_a_log_survives_the_way_through_json_byte_for_byte(instance: Instance, start_run: StartRun) -> None:
    run, log = start_run()
    log.write(bytes(range(256)).replace(b"\n", b"") + b"\n")
    answer = json.loads(json.dumps(read_encoded_tail("llama", None, None, 2**20)))
    assert answer["left_out"] == 0
    [(run_id, start, text)] = answer["segments"]
    assert (run_id, start, text.encode("latin-1")) == (run.pk, 0, log.path.read_bytes())


def test_a_log_on_a_node_that_is_away_says_so_at_once(
    instance: Instance, start_run: StartRun, settings: Settings
) -> None:
    start_run()[1].write_lines(0, 1)
    settings.CORRAL = msgspec.structs.replace(settings.CORRAL, node="near")
    with pytest.raises(NodeUnavailable, match="main does not answer"):
        read_last_lines(instance, 1, None)


def test_an_instance_elsewhere_that_never_ran_needs_no_node(instance: Instance, settings: Settings) -> None:
    settings.CORRAL = msgspec.structs.replace(settings.CORRAL, node="near")
    assert read_last_lines(instance, 1, None) == ""


def test_a_disk_that_refuses_is_an_error_with_its_reason(instance: Instance, start_run: StartRun) -> None:
    log = start_run()[1]
    log.path.mkdir(parents=True)
    with pytest.raises(LogUnavailable, match="Failed to get logs: Is a directory"):
        read_last_lines(instance, 1, None)
