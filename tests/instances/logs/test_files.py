"""The archive on the node: tails over rotated parts and earlier runs, safe paths, clean-up."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from pytest_django import Settings

from instances.errors import InvalidName
from instances.logs.errors import LogUnavailable
from instances.logs.files import Tail, delete_logs, last_lines, log_folder, log_path, prune_logs, read_tail
from instances.logs.growing import GrowingLog
from instances.logs.parts import list_parts, read_from
from instances.logs.records import Decoder, join_pieces
from tests.instances.logs.conftest import RunLog


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.CORRAL = msgspec.structs.replace(settings.CORRAL, data_dir=tmp_path)
    folder = tmp_path / "logs" / "llama"
    folder.mkdir(parents=True)
    return folder


def texts(tail: Tail) -> list[str]:
    return [line.text for part in tail.segments for line in join_pieces(Decoder().decode(part.data))]


def numbered(first: int, count: int) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


def test_the_last_lines_of_a_long_log_are_read_from_its_end(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    for first in range(0, 100_000, 1000):
        log.write_lines(first, 1000)
    tail = read_tail(folder, lines=5)
    assert texts(tail) == numbered(99_995, 5)
    assert tail.segments[0].end == (folder / "1.log").stat().st_size


@pytest.mark.parametrize("compress", [False, True])
def test_the_last_lines_reach_over_rotated_parts(folder: Path, *, compress: bool) -> None:
    log = RunLog(folder / "1.log", max_bytes=20_000, compress=compress)
    for first in range(0, 2000, 100):
        log.write_lines(first, 100)
    log.close()
    names = {entry.name for entry in folder.iterdir()}
    assert len(names) > 3
    assert any(name.endswith(".gz") for name in names) == compress
    assert texts(read_tail(folder, lines=1500)) == numbered(500, 1500)
    assert texts(read_tail(folder, lines=None)) == numbered(0, 2000)


def test_too_few_lines_are_filled_up_from_earlier_runs(folder: Path) -> None:
    for run_id in (2, 9, 10):
        RunLog(folder / f"{run_id}.log").write_lines(run_id * 10, 3)
    tail = read_tail(folder, lines=5)
    assert [segment.run_id for segment in tail.segments] == [9, 10]
    assert texts(tail) == numbered(91, 2) + numbered(100, 3)


def test_the_lines_of_one_stream_are_counted_alone(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    log.write_lines(0, 3, "stderr")
    for first in range(0, 50_000, 1000):
        log.write_lines(first, 1000)
    tail = read_tail(folder, lines=2, stream="stderr")
    lines = Decoder().decode(tail.segments[0].data, "stderr")
    assert [line.text for line in lines] == numbered(1, 2)


def test_a_look_is_limited_in_bytes_and_says_what_it_left_out(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    for first in range(0, 20_000, 1000):
        log.write_lines(first, 1000)
    tail = read_tail(folder, lines=None, max_bytes=100_000)
    assert 90_000 < len(tail.segments[0].data) <= 100_000
    assert tail.left_out == tail.segments[0].start > 0
    assert texts(tail)[-1] == "line 19999"


def test_a_line_of_10_megabytes_is_one_line(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    log.write("before\n")
    log.write("x" * 10_000_000 + "\nafter\n")
    whole = texts(read_tail(folder, lines=2))
    assert [len(text) for text in whole] == [10_000_000, 5]


def test_a_record_that_is_still_being_written_waits(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    log.write_lines(0, 2)
    with log.path.open("ab") as file:
        file.write(b"2026-11-20T23:39:17.123456789Z stdout F half")
    assert texts(read_tail(folder, lines=1)) == ["line 1"]


def test_without_logs_the_tail_is_empty(folder: Path) -> None:
    assert read_tail(folder, lines=10) == Tail([])
    assert read_tail(folder / "missing", lines=None) == Tail([])


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../secret", "a\0b"])
def test_a_name_that_leaves_the_logs_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        log_folder(name)


def test_a_folder_that_links_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (folder.parent / "link").symlink_to(tmp_path / "private")
    with pytest.raises(LogUnavailable, match="leads out"):
        log_path("link", 1)


def test_offsets_lead_through_all_parts(folder: Path) -> None:
    log = RunLog(folder / "1.log", max_bytes=5_000)
    for first in range(0, 1000, 50):
        log.write_lines(first, 50)
    whole = b"".join(Path(part.path).read_bytes() for part in list_parts(log.path))
    offset, collected = 0, b""
    while chunk := read_from(log.path, offset, 1000)[1]:
        collected += chunk
        offset += len(chunk)
    assert collected == whole
    assert read_from(log.path, 7_777, 10)[1] == whole[7_777:7_787]


def test_parts_that_are_gone_move_the_offset(folder: Path) -> None:
    log = RunLog(folder / "1.log", max_bytes=5_000, max_files=2)
    for first in range(0, 1000, 50):
        log.write_lines(first, 50)
    oldest = list_parts(log.path)[0]
    assert oldest.start > 0
    start, data = read_from(log.path, 0, 100)
    assert start == oldest.start
    assert data.startswith(b"20")


def test_a_growing_log_is_read_once_over_rotations_and_compression(folder: Path) -> None:
    log = RunLog(folder / "1.log", max_bytes=3_000, compress=True)
    reader = GrowingLog(log.path, 1_000)
    collected: list[str] = []
    decoder = Decoder()

    def take() -> None:
        while chunk := reader.read():
            collected.extend(line.text for line in decoder.decode(chunk[1]))

    for first in range(0, 3000, 10):
        log.write_lines(first, 10)
        if log.rotation.compressor_pid:
            os.waitpid(log.rotation.compressor_pid, 0)
            log.rotation.finish_compressing(succeeded=True)
        if first % 300 == 0:
            take()
    log.close()
    take()
    reader.close()
    assert collected == numbered(0, 3000)


def test_the_reason_of_a_failure_is_made_of_the_last_lines(folder: Path) -> None:
    log = RunLog(folder / "1.log")
    log.write_lines(0, 20)
    log.write("unfinished")
    log.close()
    assert last_lines(log.path, 2) == ["line 19", "unfinished"]
    assert last_lines(folder / "7.log", 2) == []


def test_pruning_keeps_the_newest_runs_with_all_their_parts(folder: Path) -> None:
    for run_id in (1, 2, 10):
        log = RunLog(folder / f"{run_id}.log", max_bytes=1_000)
        for first in range(0, 100, 10):
            log.write_lines(first, 10)
    (folder / "notes.txt").write_text("somebody's own")
    assert prune_logs("llama", 2) == 1
    names = {entry.name for entry in folder.iterdir()}
    assert not any(name.startswith("1.log") for name in names)
    assert {"2.log", "10.log", "notes.txt"} <= names
    assert prune_logs("llama", 0) == 1
    assert (folder / "10.log").exists()


def test_deleting_an_instance_takes_its_logs(folder: Path) -> None:
    RunLog(folder / "1.log").write_lines(0, 1)
    delete_logs("llama")
    delete_logs("llama")
    assert not folder.exists()
