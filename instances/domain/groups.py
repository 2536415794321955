"""Swap groups: which instances give way when a member of a group is loaded. The rules are llama-swap's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the setting CORRAL_GROUPS says about one group; an instance belongs to it by its option ``group``.

    ``swap``: one member at a time. ``exclusive``: loading a member stops what runs outside the group. ``persistent``:
    members are not stopped for other groups' sake; ``swap`` within the group still holds.
    """

    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


def find_group_fault(name: str, *, groups: Mapping[str, Group], limits: Mapping[str, int]) -> str:
    """Return what is wrong with an instance's group, "" when nothing is.

    Where groups are defined, it should be one of them, or one with a limit; else it is likely a slip.
    """
    if not name or not groups or name in groups or name in limits:
        return ""
    return f"The group {name} is not among CORRAL_GROUPS ({', '.join(groups)}), so it makes nobody give way."


def gives_way(present: str, *, newcomer: str, groups: Mapping[str, Group]) -> bool:
    """Whether an instance of the group ``present`` stops when one of the group ``newcomer`` is loaded.

    A group that ``groups`` does not name asks nobody to leave, and is not persistent. The rule has a direction: what is
    loaded by a group that isn't exclusive stops nothing, not even an exclusive group.
    """
    group = groups.get(newcomer)
    if group is None:
        return False
    if present == newcomer:
        return group.swap
    other = groups.get(present)
    return group.exclusive and not (other is not None and other.persistent)
