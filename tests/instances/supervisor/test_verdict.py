"""What the end of a process means."""

from __future__ import annotations

from datetime import UTC, datetime

from instances.backends.registry import get_backend
from instances.enums import DesiredState, State
from instances.supervisor.verdict import Ending, judge_exit

OPTIONS = {"auto_restart": True, "max_restarts": 2, "restart_delay": 5}
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def judge(**changes: object) -> Ending:
    facts = {
        "options": OPTIONS,
        "restart_count": 0,
        "was_ready": True,
        "is_wanted": True,
        "exit_code": 1,
        "error": "",
        "could_run": True,
        "tail": [],
    }
    return judge_exit(**{**facts, **changes})  # type: ignore[arg-type]


def test_a_crash_is_restarted_after_the_delay_and_counted() -> None:
    ending = judge(restart_count=1)
    assert (ending.state, ending.restart_count, ending.restart_in_s) == (State.BACKOFF, 2, 5.0)


def test_a_crash_beyond_the_count_fails() -> None:
    assert judge(restart_count=2).state is State.FAILED


def test_zero_restarts_means_never() -> None:
    assert judge(options={**OPTIONS, "max_restarts": 0}).state is State.FAILED


def test_without_auto_restart_a_crash_fails() -> None:
    assert judge(options={**OPTIONS, "auto_restart": False}).state is State.FAILED


def test_exit_code_zero_after_ready_stops_for_good() -> None:
    ending = judge(exit_code=0)
    assert (ending.state, ending.desired_state) == (State.STOPPED, DesiredState.STOPPED)


def test_exit_code_zero_is_a_crash_of_an_engine_that_ends_so_when_a_part_of_it_was_killed() -> None:
    """vLLM's API server ended with 0 when its EngineCore was killed, and nobody started it again."""
    ending = judge(exit_code=0, zero_is_a_crash=True, tail=["EngineDeadError"])
    assert (ending.state, ending.restart_count) == (State.BACKOFF, 1)
    assert ending.reason == "The engine ended with exit code 0.\nIts last log lines:\nEngineDeadError"
    assert get_backend("vllm").zero_is_a_crash
    assert judge(exit_code=0, zero_is_a_crash=True, is_wanted=False).state is State.STOPPED


def test_a_program_that_does_not_exist_is_not_tried_again() -> None:
    ending = judge(was_ready=False, exit_code=None, error="No such file or directory: /no/such", could_run=False)
    assert (ending.state, ending.reason) == (State.FAILED, "No such file or directory: /no/such")


def test_exit_code_zero_before_ready_is_a_failure() -> None:
    assert judge(exit_code=0, was_ready=False).state is State.BACKOFF


def test_an_exit_nobody_minds_just_stops() -> None:
    assert judge(is_wanted=False) == Ending(State.STOPPED)


def test_the_reason_names_the_signal_and_quotes_the_log() -> None:
    reason = judge(exit_code=-11, tail=["loading", "out of memory"]).reason
    assert reason.splitlines() == [
        "The engine was ended by SIGSEGV.",
        "Its last log lines:",
        "loading",
        "out of memory",
    ]


def test_the_code_of_a_container_or_shell_whose_program_died_of_a_signal_names_it() -> None:
    """Docker tells of a container that was killed, for want of memory say, by 128 and the signal."""
    assert judge(exit_code=137).reason == "The engine ended with exit code 137 (SIGKILL)."
    assert judge(exit_code=125).reason == "The engine ended with exit code 125."
    assert judge(exit_code=255).reason == "The engine ended with exit code 255."


def test_a_long_log_keeps_its_newest_end() -> None:
    reason = judge(tail=["x" * 9000, "the cause"]).reason
    assert reason.endswith("the cause")
    assert len(reason) < 4100
