"""An instance as a page shows it to one person: its state in words and colour, and what may be done with it now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from accounts.domain.actors import Actor
from instances.backends.registry import BACKENDS
from instances.domain.access import LEVELS, levels_of
from instances.domain.groups import find_group_fault
from instances.domain.reasons import summarize_reason
from instances.domain.serving import describe_ttl, effective_ttl_s
from instances.enums import ACTIVE, DesiredState, ShareLevel, State
from instances.models import Instance

TONES = {
    State.STOPPED: "secondary",
    State.STARTING: "blue",
    State.READY: "green",
    State.STOPPING: "yellow",
    State.BACKOFF: "orange",
    State.FAILED: "red",
}


@dataclass(frozen=True)
class Card:
    """One instance for one person, who has ``level`` on it."""

    instance: Instance
    level: ShareLevel | None

    @property
    def state(self) -> State:
        """The observed state."""
        return State(self.instance.state)

    @property
    def is_wanted(self) -> bool:
        """Whether it shall run."""
        return self.instance.desired_state == DesiredState.RUNNING

    @property
    def is_queued(self) -> bool:
        """Whether its start waits for something."""
        return self.state == State.STOPPED and self.is_wanted

    @property
    def is_moving(self) -> bool:
        """Whether the state will change by itself."""
        return self.is_queued or self.state in (State.STARTING, State.STOPPING, State.BACKOFF)

    @property
    def label(self) -> str:
        """The state in words."""
        if self.is_queued:
            return "Waiting to start"
        if self.state == State.STOPPED and self.instance.disabled:
            return "Disabled"
        return str(self.state.label)

    @property
    def tone(self) -> str:
        """The colour of the state."""
        return "blue" if self.is_queued else TONES[self.state]

    @property
    def engine(self) -> str:
        """The engine's name."""
        backend = BACKENDS.get(self.instance.backend_type)
        return backend.label if backend else self.instance.backend_type

    @property
    def idle_time(self) -> str:
        """After what time without a request it stops, with its unit; empty: never."""
        ttl_s = effective_ttl_s(self.instance.options)
        return describe_ttl(ttl_s) if ttl_s else ""

    @property
    def aliases(self) -> str:
        """Its other names, separated by commas."""
        return ", ".join(self.instance.options.get("aliases", ()))

    @property
    def group_fault(self) -> str:
        """What is wrong with its group; empty when nothing is."""
        return find_group_fault(self.instance.group, groups=settings.CORRAL.groups, limits=settings.CORRAL.group_limits)

    @property
    def reason(self) -> str:
        """Why it isn't running although somebody wanted it to; empty when there is nothing to explain."""
        shows = self.is_queued or self.instance.refused_at or self.state in (State.FAILED, State.BACKOFF)
        return self.instance.reason if shows else ""

    @property
    def reason_title(self) -> str:
        """The reason in a sentence, and the line of the log that names the cause, where there is one."""
        return summarize_reason(self.reason)

    @property
    def can_operate(self) -> bool:
        """Whether this person may start and stop it."""
        return self.level is not None and LEVELS.index(self.level) >= LEVELS.index(ShareLevel.OPERATE)

    @property
    def can_manage(self) -> bool:
        """Whether this person may change and delete it."""
        return self.level == ShareLevel.MANAGE

    @property
    def can_start(self) -> bool:
        """Whether a start button makes sense."""
        idle = self.state == State.FAILED or (self.state == State.STOPPED and not self.is_wanted)
        return self.can_operate and not self.instance.disabled and idle

    @property
    def can_stop(self) -> bool:
        """Whether a stop button makes sense."""
        return self.can_operate and self.is_wanted and self.state not in (State.FAILED, State.STOPPING)

    @property
    def can_restart(self) -> bool:
        """Whether a restart button makes sense."""
        return self.can_stop and self.state in (State.STARTING, State.READY, State.BACKOFF)

    @property
    def holds_process(self) -> bool:
        """Whether deleting it would stop something."""
        return self.state in ACTIVE or self.state == State.BACKOFF


def make_cards(actor: Actor, instances: Iterable[Instance]) -> list[Card]:
    """Return cards of instances; one query whatever their number."""
    rows = list(instances)
    levels = levels_of(actor, rows)
    return [Card(row, levels[row.pk]) for row in rows]
