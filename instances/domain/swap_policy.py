"""The two ways to say which instances run together, groups and a matrix, behind one question."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from instances.domain.groups import Group, gives_way
from instances.domain.matrix import Matrix, MatrixOptions, Solution


@dataclass(frozen=True)
class Member:
    """What a policy knows an instance by. ``is_stopping``: it leaves anyhow."""

    instance_id: int
    name: str
    group: str
    pinned: bool = False
    is_stopping: bool = False


class SwapPolicy(Protocol):
    """Says who can't stay."""

    def find_rivals(self, newcomer: Member, present: Sequence[Member]) -> Collection[int]:
        """Return the ids of those present that must be gone before the newcomer is loaded."""

    def explain(self, newcomer: Member, present: Sequence[Member]) -> str:
        """Say for the log by which rule; empty when there is nothing to say."""


class GroupPolicy:
    """Swap groups, by the instances' option ``group``; without groups everything runs beside everything."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups

    def find_rivals(self, newcomer: Member, present: Sequence[Member]) -> Collection[int]:
        """Return the ids of those who give way to the newcomer's group."""
        return {
            one.instance_id for one in present if gives_way(one.group, newcomer=newcomer.group, groups=self._groups)
        }

    def explain(self, newcomer: Member, present: Sequence[Member]) -> str:
        """Name the group."""
        return f"group {newcomer.group}" if newcomer.group in self._groups else ""


class MatrixPolicy:
    """A matrix, by the instances' names."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix

    def find_rivals(self, newcomer: Member, present: Sequence[Member]) -> Collection[int]:
        """Return the ids of those whom the cheapest set for the newcomer leaves out."""
        kept = self._solve(newcomer, present).kept if present else ()
        return {one.instance_id for one in present if one.name not in kept}

    def explain(self, newcomer: Member, present: Sequence[Member]) -> str:
        """Name the set chosen, its text, who may run with the newcomer, and the cost."""
        found = self._solve(newcomer, present)
        if not found.set_name:
            return "no set of the matrix has it: it runs alone"
        text = self._matrix.text[found.set_name]
        return f"set {found.set_name}: {text}; kept: {', '.join(sorted(found.kept))}; cost {found.cost}"

    def _solve(self, newcomer: Member, present: Sequence[Member]) -> Solution:
        # What is stopping leaves anyhow: no set is chosen for its sake.
        staying = [one for one in present if not one.is_stopping]
        pinned = [one.name for one in staying if one.pinned]
        return self._matrix.solve(newcomer.name, sorted(one.name for one in staying), pinned)


ANYTHING_GOES: SwapPolicy = GroupPolicy({})


def make_policy(groups: Mapping[str, Group], matrix: MatrixOptions) -> SwapPolicy:
    """Return the policy that the settings ask for; raise MatrixError when the matrix can't be used."""
    return MatrixPolicy(Matrix(matrix)) if matrix.is_given else GroupPolicy(groups)
