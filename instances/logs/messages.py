"""Corral's own messages: what happened to instances, as lines of text in the manner of llama-swap's ``proxy`` log."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from accounts.domain.actors import Actor
from instances.domain.access import visible_instances
from instances.enums import State
from instances.logs.access import Credentials, find_actor
from instances.logs.text import cut_history
from instances.models import InstanceEvent

WINDOW = 200
"""Ids below the newest that are looked at again: transactions may be committed in another order than they began."""
AT_ONCE = 1000
"""Most messages that one look takes into memory."""
HISTORY = 2000

_LEVELS = {State.FAILED: "ERROR", State.BACKOFF: "WARN"}


def format_message(event: InstanceEvent) -> str:
    """Return an event as one line: ``[INFO] llama starting -> ready (reason)``, ``[INFO] llama stop by user:anna``.

    Of a longer reason, such as an engine's last words, only the first line is told.
    """
    if event.kind == "transition":
        level = _LEVELS.get(State(event.to_state), "INFO")
        what = f"{event.from_state} -> {event.to_state}"
    else:
        level = "WARN" if event.kind == "refused" else "INFO"
        what = f"{event.kind} by {event.actor}"
    reason = event.reason.strip().splitlines()
    text = f"[{level}] {event.instance_name} {what}{f' ({reason[0]})' if reason else ''}"
    return "".join(character if character.isprintable() else " " for character in text)


class MessageReader:
    """Reads the messages that a caller may see, each once, in order. Synchronous, not for two threads at once."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._newest = 0
        self._told: set[int] = set()

    def read_history(self) -> str:
        """Return the newest messages, at most 100 KiB, and go on behind them. Raises NotAuthenticated."""
        actor = find_actor(self._credentials)
        self._go_to_end()
        rows = _select_visible(actor).filter(pk__lte=self._newest).order_by("-pk")[:HISTORY]
        events = list(reversed(rows))
        self._note(event.pk for event in events)
        return cut_history(_join(events))

    def skip_history(self) -> str:
        """Begin with the next message; return no text. Raises NotAuthenticated."""
        find_actor(self._credentials)
        self._go_to_end()
        return ""

    def read_new(self) -> str:
        """Return what happened since the last call, empty when nothing did. Raises NotAuthenticated."""
        actor = find_actor(self._credentials)
        ids = InstanceEvent.objects.filter(pk__gt=self._newest - WINDOW).order_by("pk")
        unseen = [pk for pk in ids.values_list("pk", flat=True)[: WINDOW + AT_ONCE] if pk not in self._told]
        if not unseen:
            return ""
        events = list(_select_visible(actor).filter(pk__in=unseen).order_by("pk"))
        # What the caller may not see is told as well: a right that is given later does not bring it back.
        self._note(unseen)
        return _join(events)

    def _go_to_end(self) -> None:
        newest = InstanceEvent.objects.order_by("-pk").values_list("pk", flat=True)[:WINDOW]
        self._note(list(newest))

    def _note(self, ids: Iterable[int]) -> None:
        self._told.update(ids)
        self._newest = max(self._told, default=0)
        self._told = {pk for pk in self._told if pk > self._newest - WINDOW}


def _select_visible(actor: Actor) -> QuerySet[InstanceEvent]:
    """Return the events of instances the actor sees; those of deleted ones for actors who see all."""
    visible = Q(instance__in=visible_instances(actor).order_by().values("pk"))
    if actor.is_operator and not actor.is_limited_to_instances:
        visible |= Q(instance=None)
    return InstanceEvent.objects.filter(visible)


def _join(events: list[InstanceEvent]) -> str:
    return "".join(f"{format_message(event)}\n" for event in events)
