"""What the end of a process means for its instance: a pure function."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instances.enums import DesiredState, State

REASON_LIMIT = 4000
"""Characters of a reason; the newest log lines are kept."""


@dataclass(frozen=True)
class Ending:
    """Where an instance goes when its run ends. ``restart_in_s`` is set when it goes to backoff; None fields stay."""

    state: State
    reason: str = ""
    restart_count: int | None = None
    restart_in_s: float | None = None
    desired_state: DesiredState | None = None


def judge_exit(
    *,
    options: Mapping[str, Any],
    restart_count: int,
    was_ready: bool,
    is_wanted: bool,
    exit_code: int | None,
    error: str,
    could_run: bool,
    tail: Sequence[str],
    zero_is_a_crash: bool = False,
) -> Ending:
    """Decide what follows when a process ended by itself.

    Not wanted any more: stopped. A program that could not be started at all (``could_run`` false): failed, as another
    attempt would end alike. Ended with 0 after it was ready: stopped for good, as the engine chose to, unless
    ``zero_is_a_crash``. Otherwise a crash: backoff while ``auto_restart`` and ``max_restarts`` allow, then failed.
    ``tail`` are the last log lines; they become the reason a user reads.
    """
    if not is_wanted:
        return Ending(State.STOPPED)
    if was_ready and exit_code == 0 and not error and not zero_is_a_crash:
        return Ending(
            State.STOPPED, reason="The engine ended by itself with exit code 0.", desired_state=DesiredState.STOPPED
        )
    reason = describe_exit(was_ready=was_ready, exit_code=exit_code, error=error, tail=tail)
    if error and not could_run:
        return Ending(State.FAILED, reason=reason)
    limit = int(options.get("max_restarts", 0)) if options.get("auto_restart") else 0
    if restart_count < limit:
        return Ending(
            State.BACKOFF,
            reason=reason,
            restart_count=restart_count + 1,
            restart_in_s=float(options.get("restart_delay", 0)),
        )
    return Ending(State.FAILED, reason=reason)


def describe_exit(*, was_ready: bool, exit_code: int | None, error: str, tail: Sequence[str]) -> str:
    """Say in a sentence how a process ended, then its last log lines."""
    if error:
        sentence = error
    else:
        when = "" if was_ready else " before it was ready"
        sentence = f"The engine {describe_code(exit_code)}{when}."
    if not tail:
        return sentence
    lines = "\n".join(tail)
    return f"{sentence}\nIts last log lines:\n{lines[-(REASON_LIMIT - len(sentence)) :]}"


def describe_code(exit_code: int | None) -> str:
    """Say an exit code in words.

    Negative codes are signals; so is what lies above 128 where a shell or Docker tells of somebody else's end.
    """
    if exit_code is None:
        return "vanished"
    if exit_code >= 0:
        name = name_signal(exit_code - 128)
        return f"ended with exit code {exit_code}" + (f" ({name})" if name else "")
    return f"was ended by {name_signal(-exit_code) or f'signal {-exit_code}'}"


def name_signal(number: int) -> str:
    """Return the name of a signal, empty when there is none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
