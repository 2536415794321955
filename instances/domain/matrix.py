"""The matrix: sets of instances that may run together, and the cheapest way to make room for one more.

A set denotes many combinations; ``(a|b) & (c|d)`` denotes four. They are never written out: only the instances that
matter to a question (those that run, and the one to load) are told apart, and of two combinations one of which keeps
all that the other keeps, only the larger is looked at further.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from instances.domain.names import find_name_fault
from instances.domain.set_expressions import (
    AllOf,
    AnyOf,
    Expression,
    ExpressionError,
    Model,
    SetReference,
    is_name_character,
    parse_expression,
    walk,
)

VARIABLE_NAME = re.compile(r"[a-zA-Z0-9.-]{1,32}")
HIGHEST_COST = 1_000_000
MOST_CHOICES = 128
"""The choice is the cheapest as long as no more combinations than this are neither better nor worse than one another;
beyond it the dearer ones are dropped and the choice is a good one."""
MOST_PAIRS = 5_000

Witness = str | tuple["Witness", "Witness"] | None
Choice = tuple[int, Witness]
"""The instances that matter, as bits, and how the whole combination came about."""


class MatrixError(ValueError):
    """The matrix can't be used; the message names the set or the variable."""


class MatrixOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The setting CORRAL_MATRIX as written.

    ``vars``: short names of instances. ``evict_costs``: what it costs to stop one, by variable or name, 1 unless said.
    ``sets``: what may run together, by name; their order decides ties.
    """

    vars: dict[str, str] = {}
    evict_costs: dict[str, int] = {}
    sets: dict[str, str] = {}

    @property
    def is_given(self) -> bool:
        """Whether anything was written."""
        return bool(self.vars or self.evict_costs or self.sets)


@dataclass(frozen=True)
class Solution:
    """Who leaves for an instance, in the order given, and who may stay.

    ``kept`` is the whole combination chosen, the instance itself included; ``set_name`` is empty when no set has it, so
    that it runs alone. ``looked_at`` counts the combinations that were considered.
    """

    evicted: tuple[str, ...]
    set_name: str
    kept: frozenset[str]
    cost: int
    looked_at: int = 0


class Matrix:
    """The sets, ready to be asked. Raises MatrixError when an option can't be meant."""

    def __init__(self, options: MatrixOptions) -> None:
        check_variables(options.vars)
        self.text = dict(options.sets)
        self._costs = resolve_costs(options)
        self._sets: dict[str, Expression] = {}
        for name in order_sets(parsed := parse_sets(options)):
            self._sets[name] = parsed[name]
        self._support: dict[str, frozenset[str]] = {}
        for name, expression in self._sets.items():
            self._support[name] = frozenset().union(
                *({leaf.name} if isinstance(leaf, Model) else self._support[leaf.name] for leaf in walk(expression))
            )

    @property
    def names(self) -> frozenset[str]:
        """Every instance that a set mentions or a cost is given for."""
        return frozenset(self._costs).union(*self._support.values())

    def solve(self, target: str, running: Collection[str], pinned: Collection[str] = ()) -> Solution:
        """Return who of ``running`` must leave so that ``target`` can be loaded, at the least cost.

        ``pinned`` ones leave only when there is no other way. When the target runs already, nobody leaves.
        """
        bits = {name: 1 << index for index, name in enumerate(dict.fromkeys([target, *running]))}
        weights = {bit: self._costs.get(name, 1) for name, bit in bits.items()}
        ordinary = sum(weights.values())
        weights |= {bits[name]: ordinary + 1 for name in pinned if name in bits}
        weights[bits[target]] = sum(weights.values()) + 1  # worth more than all others: when choices are dropped, too
        search = _Search(bits, weights)
        best = Solution(tuple(name for name in running if name != target), "", frozenset({target}), 0)
        least: int | None = None
        for set_name in self._relevant_sets(target):
            choices = search.evaluate_set(set_name, self._sets[set_name])
            if target not in self._support[set_name]:
                continue
            for mask, witness in choices:
                cost = sum(weight for bit, weight in weights.items() if not mask & bit)
                if mask & 1 and (least is None or cost < least):
                    least = cost
                    best = replace(best, set_name=set_name, kept=frozenset(flatten(witness)))
        evicted = () if target in running else tuple(name for name in best.evicted if name not in best.kept)
        if target in running and least != 0:
            best = replace(best, set_name="", kept=frozenset({target}))
        price = sum(self._costs.get(name, 1) for name in evicted) if best.set_name else 0
        return replace(best, evicted=evicted, cost=price, looked_at=search.looked_at)

    def _relevant_sets(self, target: str) -> list[str]:
        """The sets that can have the target, and those they refer to, in the order of ties."""
        needed: set[str] = set()
        for name in reversed(self._sets):
            if name in needed or target in self._support[name]:
                needed.add(name)
                needed |= {leaf.name for leaf in walk(self._sets[name]) if isinstance(leaf, SetReference)}
        return [name for name in self._sets if name in needed]


class _Search:
    """One question's work: each set's choices are found once."""

    def __init__(self, bits: Mapping[str, int], weights: Mapping[int, int]) -> None:
        self._bits = bits
        self._weights = weights
        self._found: dict[str, list[Choice]] = {}
        self.looked_at = 0

    def evaluate_set(self, name: str, expression: Expression) -> list[Choice]:
        self._found[name] = self._evaluate(expression)
        return self._found[name]

    def _evaluate(self, expression: Expression) -> list[Choice]:
        if isinstance(expression, Model):
            return [(self._bits.get(expression.name, 0), expression.name)]
        if isinstance(expression, SetReference):
            return self._found[expression.name]
        if isinstance(expression, AnyOf):
            return self._keep_best(choice for part in expression.parts for choice in self._evaluate(part))
        choices: list[Choice] = [(0, None)]
        for part in expression.parts:
            others = self._evaluate(part)
            while len(choices) * len(others) > MOST_PAIRS:
                choices, others = sorted((choices, others), key=len)
                others = self._dearest(others, len(others) // 2)
            choices = self._keep_best(
                (mask | other, (witness, other_witness)) for mask, witness in choices for other, other_witness in others
            )
        return choices

    def _keep_best(self, choices: Iterable[Choice]) -> list[Choice]:
        """Leave out what another choice contains; of equal ones the first stays."""
        kept: list[Choice] = []
        for mask, witness in choices:
            self.looked_at += 1
            if any(mask | other == other for other, _ in kept):
                continue
            kept = [choice for choice in kept if choice[0] | mask != mask]
            kept.append((mask, witness))
            if len(kept) > 2 * MOST_CHOICES:
                kept = self._dearest(kept, MOST_CHOICES)
        return kept

    def _dearest(self, choices: list[Choice], count: int) -> list[Choice]:
        """Keep those that save the most, in the order they had."""
        worth = [sum(weight for bit, weight in self._weights.items() if mask & bit) for mask, _ in choices]
        best = sorted(range(len(choices)), key=lambda index: -worth[index])[:count]
        return [choices[index] for index in sorted(best)]


def flatten(witness: Witness) -> list[str]:
    """Return the names of a combination."""
    names: list[str] = []
    left: list[Witness] = [witness]
    while left:
        part = left.pop()
        if isinstance(part, str):
            names.append(part)
        elif part is not None:
            left.extend(part)
    return names


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise MatrixError for a variable that can't be written in a set, or that stands for no possible instance."""
    for variable, name in variables.items():
        if not VARIABLE_NAME.fullmatch(variable):
            raise MatrixError(f"var {variable!r} must have 1 to 32 letters, digits, dots or dashes")
        if fault := find_name_fault(name):
            raise MatrixError(f"var {variable} stands for {name!r}, which is no instance: {fault}")


def resolve_name(name: str, variables: Mapping[str, str]) -> str:
    """Return the instance a name stands for: a variable's, or its own; raise MatrixError when it can be neither."""
    if name in variables:
        return variables[name]
    if fault := find_name_fault(name):
        raise MatrixError(f"{name!r} is neither a var nor the name of an instance: {fault}")
    return name


def resolve_costs(options: MatrixOptions) -> dict[str, int]:
    """Return the costs by instance."""
    costs: dict[str, int] = {}
    for name, cost in options.evict_costs.items():
        try:
            instance = resolve_name(name, options.vars)
        except MatrixError as error:
            raise MatrixError(f"evict_costs: {error}") from None
        if not 1 <= cost <= HIGHEST_COST:
            raise MatrixError(f"evict_costs: {name} must cost between 1 and {HIGHEST_COST}, not {cost}")
        if costs.setdefault(instance, cost) != cost:
            raise MatrixError(f"evict_costs: {instance} is given two costs, by its var and by its name")
    return costs


def parse_sets(options: MatrixOptions) -> dict[str, Expression]:
    """Read all sets and put the instances' names for the variables; raise MatrixError naming the set at fault."""
    if not options.sets:
        raise MatrixError("there are no sets")
    parsed: dict[str, Expression] = {}
    for name, text in options.sets.items():
        if not name or not all(is_name_character(character) for character in name):
            raise MatrixError(f"set {name!r} must be named by letters, digits, _, - and .")
        try:
            parsed[name] = resolve(parse_expression(text), options.vars)
        except (ExpressionError, MatrixError) as error:
            raise MatrixError(f"set {name}: {error}") from None
    return parsed


def resolve(expression: Expression, variables: Mapping[str, str]) -> Expression:
    """Put the instances' names for the variables."""
    if isinstance(expression, Model):
        return Model(resolve_name(expression.name, variables))
    if isinstance(expression, AnyOf | AllOf):
        return replace(expression, parts=tuple(resolve(part, variables) for part in expression.parts))
    return expression


def order_sets(sets: Mapping[str, Expression]) -> list[str]:
    """Return the sets' names as defined, but each after those it refers to; raise MatrixError at a circle."""
    references = {
        name: [leaf.name for leaf in walk(expression) if isinstance(leaf, SetReference)]
        for name, expression in sets.items()
    }
    order: dict[str, None] = {}
    for first in sets:
        path: dict[str, Iterable[str]] = {first: iter(references[first])} if first not in order else {}
        while path:
            name = next(reversed(path))
            for other in path[name]:
                if other not in sets:
                    raise MatrixError(f"set {name}: +{other} refers to a set that is not defined")
                if other in path:
                    circle = " -> ".join([*list(path)[list(path).index(other) :], other])
                    raise MatrixError(f"set {other} refers to itself: {circle}")
                if other not in order:
                    path[other] = iter(references[other])
                    break
            else:
                order[name] = None
                del path[name]
    return list(order)
