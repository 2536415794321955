"""Who waits for a place, since when, and for whose sake: what the rows don't say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from instances.domain.admission import Candidate
from instances.models import Instance


@dataclass
class Asking:
    """One instance's wait for a place; ``since`` in monotonic seconds.

    ``by_request``: requests want it, nobody else; the wish goes when they leave. ``has_begun``: others were stopped for
    its sake, so it is the next to have their place. ``wanted_at``: what the row said when it was first seen waiting.
    """

    since: float
    can_evict: bool = True
    by_request: bool = False
    has_begun: bool = False
    wanted_at: datetime | None = None


class Queue:
    """The instances that are wanted and have no place."""

    def __init__(self) -> None:
        self._asking: dict[int, Asking] = {}

    def join(self, instance_id: int, *, since: float, can_evict: bool, by_request: bool = False) -> None:
        """Note an instance that Corral itself wants; one in the queue already keeps the earlier time."""
        known = self._asking.get(instance_id)
        if known is None:
            self._asking[instance_id] = Asking(since, can_evict, by_request)
        else:
            known.since = min(known.since, since)
            known.can_evict |= can_evict

    def note(self, row: Instance, since: float) -> None:
        """Note an instance that the database says is wanted, and whether somebody started it meanwhile."""
        asking = self._asking.setdefault(row.pk, Asking(since, row.evicts))
        asking.since = min(asking.since, since)
        if asking.wanted_at not in (None, row.wanted_at):
            asking.can_evict, asking.by_request = asking.can_evict or row.evicts, False
        asking.wanted_at = row.wanted_at

    def leave(self, instance_id: int) -> None:
        """Forget an instance that has a place, or wants none any more."""
        self._asking.pop(instance_id, None)

    def keep(self, instance_ids: Collection[int]) -> None:
        """Forget all others."""
        self._asking = {key: asking for key, asking in self._asking.items() if key in instance_ids}

    def is_by_request(self, instance_id: int) -> bool:
        """Whether nobody but requests wants the instance."""
        return instance_id in self._asking and self._asking[instance_id].by_request

    def begin_swap(self, instance_id: int) -> None:
        """Note that others are being stopped for the instance."""
        self._asking[instance_id].has_begun = True

    def candidate(self, row: Instance, now: float) -> Candidate:
        """Return what admission decides by."""
        asking = self._asking.setdefault(row.pk, Asking(now, row.evicts))
        return Candidate(
            row.pk,
            row.name,
            row.group,
            pinned=row.pinned,
            can_evict=asking.can_evict,
            priority=int(row.options.get("priority") or 0),
            waited_s=now - asking.since,
            has_begun=asking.has_begun,
        )
