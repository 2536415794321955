"""Records, cursors, and lines put together from pieces."""

from __future__ import annotations

import pytest

from instances.logs.records import (
    Cursor,
    Decoder,
    InvalidCursor,
    count_lines,
    find_last_lines,
    format_record,
    has_pieces,
    join_pieces,
)

T = b"2026-11-20T23:39:17.123456789Z"
TIME = T.decode()


def test_a_cursor_survives_its_text_form() -> None:
    assert Cursor.parse(str(Cursor(12, 3456))) == Cursor(12, 3456)


@pytest.mark.parametrize(
    "text", ["", "12", "12:", ":3", "a:1", "0:1", "1:-1", "1:01", "1:2:3", "1:99999999999999999", " 1:2"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="cursor"):
        Cursor.parse(text)


def test_records_become_lines_with_stream_and_time() -> None:
    data = format_record(T, b"stdout", b"one  two ") + format_record(T, b"stderr", b"")
    assert Decoder().decode(data) == [("stdout", TIME, "one  two ", False), ("stderr", TIME, "", False)]


def test_a_stream_can_be_chosen() -> None:
    data = format_record(T, b"stdout", b"out") + format_record(T, b"stderr", b"err")
    assert [line.text for line in Decoder().decode(data, "stderr")] == ["err"]


def test_text_keeps_carriage_returns_and_line_separators_of_other_alphabets() -> None:
    text = "10 %\r20 %\x0b\x85\u2028end"
    assert [line.text for line in Decoder().decode(format_record(T, b"stdout", text.encode()))] == [text]


def test_bytes_that_are_not_utf_8_are_shown_as_replacement_characters() -> None:
    assert Decoder().decode(format_record(T, b"stdout", b"\xff!"))[0].text == "\ufffd!"


def test_a_line_torn_by_a_full_disk_is_shown_as_it_is() -> None:
    data = b"2026-11-20T23:\n" + format_record(T, b"stderr", b"corral: 99 bytes of log were lost")
    lines = Decoder().decode(data)
    assert lines[0] == ("", "", "2026-11-20T23:", False)
    assert len(lines) == 2


def test_a_character_cut_by_two_pieces_arrives_whole_even_in_two_reads() -> None:
    first, second = "né".encode()[:2], "né".encode()[2:]
    decoder = Decoder()
    lines = decoder.decode(format_record(T, b"stdout", first, is_piece=True))
    assert not decoder.is_clean
    lines += decoder.decode(format_record(T, b"stdout", second))
    assert decoder.is_clean
    assert [line.text for line in lines] == ["n", "é"]


def test_pieces_of_two_streams_are_joined_each_with_its_own() -> None:
    data = b"".join(
        [
            format_record(T, b"stdout", b"a", is_piece=True),
            format_record(T, b"stderr", b"x", is_piece=True),
            format_record(T, b"stdout", b"b", is_piece=True),
            format_record(T, b"stderr", b"y"),
            format_record(T, b"stdout", b"c"),
            format_record(T, b"stdout", b"next"),
        ]
    )
    assert [(line.stream, line.text) for line in join_pieces(Decoder().decode(data))] == [
        ("stdout", "abc"),
        ("stderr", "xy"),
        ("stdout", "next"),
    ]
    assert has_pieces(data)
    assert count_lines(data) == 3
    assert count_lines(data, "stderr") == 1


def test_text_that_looks_like_a_piece_is_none() -> None:
    assert not has_pieces(format_record(T, b"stdout", b"2026-11-20T23:39:17.123456789Z stdout P x"))


def test_the_last_lines_are_found_with_all_their_pieces() -> None:
    old = format_record(T, b"stdout", b"old")
    new = format_record(T, b"stdout", b"ne", is_piece=True) + format_record(T, b"stdout", b"w")
    assert find_last_lines(old + new, 1) == (len(old), 1)
    assert find_last_lines(old + new, 2) == (0, 2)
    assert find_last_lines(old + new, 9) == (0, 2)


def test_the_last_lines_of_one_stream_skip_the_other() -> None:
    err = format_record(T, b"stderr", b"err")
    out = format_record(T, b"stdout", b"out")
    start, found = find_last_lines(out + err + out + out, 1, "stderr")
    assert (start, found) == (0, 1)
    start, found = find_last_lines(err + out + err + out, 1, "stderr")
    assert found == 1
    assert (err + out + err + out)[start:].count(b"stderr") == 1
