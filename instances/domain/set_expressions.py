"""The language of a matrix's sets: ``(g | q) & v & +small``.

    expression := and ( "|" and )*         and  := atom ( "&" atom )*
    atom       := NAME | "+" NAME | "(" expression ")"

A name has letters, digits, ``_``, ``-`` and ``.``; ``+name`` stands for another set. Blanks mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

DEEPEST = 50
"""How many parentheses may be open at once."""


class ExpressionError(ValueError):
    """A set can't be read; the message says what was expected where (positions count from 1)."""


@dataclass(frozen=True)
class Model:
    """One instance, by the name written."""

    name: str


@dataclass(frozen=True)
class SetReference:
    """Another set, in its place."""

    name: str


@dataclass(frozen=True)
class AnyOf:
    """One of the parts."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class AllOf:
    """One choice of each part, together."""

    parts: tuple[Expression, ...]


Expression = Model | SetReference | AnyOf | AllOf


@dataclass(frozen=True)
class Token:
    """A name or a sign, and where it began."""

    text: str
    position: int
    is_name: bool = False

    def __str__(self) -> str:
        return f"{self.text!r} at position {self.position}" if self.text else "the end"


def parse_expression(text: str) -> Expression:
    """Read a set; raise ExpressionError."""
    parser = _Parser(list(_split(text)))
    if not parser.next.text:
        raise ExpressionError("it is empty")
    expression = parser.read_any(0)
    if parser.next.text:
        raise ExpressionError(f"expected | or & before {parser.next}")
    return expression


def is_name_character(character: str) -> bool:
    """Whether a name may contain the character."""
    return character.isalpha() or character.isdecimal() or character in "_-."


def walk(expression: Expression) -> Iterator[Model | SetReference]:
    """Yield the leaves from left to right."""
    if isinstance(expression, Model | SetReference):
        yield expression
    else:
        for part in expression.parts:
            yield from walk(part)


def _split(text: str) -> Iterator[Token]:
    start = 0
    while start < len(text):
        end = start + 1
        if is_name_character(text[start]):
            while end < len(text) and is_name_character(text[end]):
                end += 1
            yield Token(text[start:end], start + 1, is_name=True)
        elif text[start] in "|&+()":
            yield Token(text[start], start + 1)
        elif not text[start].isspace():
            raise ExpressionError(f"unexpected character {text[start]!r} at position {start + 1}")
        start = end
    yield Token("", len(text) + 1)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._index]

    def take(self) -> Token:
        self._index += 1
        return self._tokens[self._index - 1]

    def read_any(self, depth: int) -> Expression:
        parts = [self.read_all(depth)]
        while self.next.text == "|":
            self.take()
            parts.append(self.read_all(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def read_all(self, depth: int) -> Expression:
        parts = [self.read_atom(depth)]
        while self.next.text == "&":
            self.take()
            parts.append(self.read_atom(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def read_atom(self, depth: int) -> Expression:
        token = self.next
        if token.is_name:
            return Model(self.take().text)
        if token.text == "+":
            self.take()
            if not self.next.is_name:
                raise ExpressionError(f"expected a set's name after + at position {token.position}, not {self.next}")
            return SetReference(self.take().text)
        if token.text != "(":
            raise ExpressionError(f"expected a name, + or ( and not {token}")
        if depth == DEEPEST:
            raise ExpressionError(f"more than {DEEPEST} parentheses are open at position {token.position}")
        self.take()
        inner = self.read_any(depth + 1)
        if self.next.text != ")":
            raise ExpressionError(f"expected ) for the ( at position {token.position}, not {self.next}")
        self.take()
        return inner
