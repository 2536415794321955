"""Which instances are loaded when Corral starts."""

from __future__ import annotations

from collections.abc import Sequence

from instances.enums import DesiredState, State
from instances.models import Instance


def choose_preloads(rows: Sequence[Instance], names: Sequence[str]) -> list[Instance]:
    """Return the instances to start: those ``names`` lists by name or alias, in its order, then those with ``preload``.

    What is disabled, runs, or is wanted to run already is left out.
    """
    listed = {name: position for position, name in enumerate(reversed(names))}

    def position(row: Instance) -> int:
        return max((listed.get(name, -1) for name in (row.name, *row.options.get("aliases", ()))), default=-1)

    chosen = [
        row
        for row in rows
        if (position(row) >= 0 or row.options.get("preload"))
        and not row.disabled
        and row.state in (State.STOPPED, State.FAILED)
        and not (row.state == State.STOPPED and row.desired_state == DesiredState.RUNNING)
    ]
    return sorted(chosen, key=lambda row: (-position(row), row.pk))
