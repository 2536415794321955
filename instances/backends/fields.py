"""An engine's options as a table one can read, and looking an option up by any of its names."""

from __future__ import annotations

from collections.abc import Iterable

from instances.backends.base import ListForm, NamesFile, OptionField, OptionKind, Risk

_FILE_MARKS = {
    "file": NamesFile.YES,
    "files": NamesFile.MANY,
    "maybe": NamesFile.MAYBE,
    "template": NamesFile.TEMPLATE,
}
_PLAIN_MARKS = frozenset(_FILE_MARKS) | {"basic", "pair", "switch", "suffixes", "no"}


def read_table(text: str) -> tuple[OptionField, ...]:
    """Read lines `type name alias... | mark...`; a line `[name]` starts a group of the form.

    Marks: `file`, `files` (divided by commas, perhaps scaled), `maybe` and `template` name files; `risk=code` (or
    another of `Risk`) keeps the option for administrators; `basic` belongs among the few options shown first; `pair`
    takes two values; `switch` is on/off in words; `suffixes` takes 32k and 32K; `no` has a `--no-` flag;
    `flag=--x` is the engine's spelling; `form=` is how a list is written; `words=all:-2` are words an integer takes.
    Where the table itself holds `no_<name>`, that is the flag for "no".
    """
    rows = [_read_row(line, group) for group, line in _rows(text)]
    names = {row.name: row for row in rows}
    return tuple(_with_negative(row, names) for row in rows)


def _rows(text: str) -> Iterable[tuple[str, str]]:
    group = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            group = line.strip("[]")
        else:
            yield group, line


def _read_row(line: str, group: str) -> OptionField:
    left, _, right = line.partition("|")
    kind, name, *aliases = left.split()
    plain, valued = set[str](), dict[str, str]()
    for mark in right.split():
        key, sign, value = mark.partition("=")
        if sign:
            valued[key] = value
        elif mark in _PLAIN_MARKS:
            plain.add(mark)
        else:
            raise ValueError(f"unknown mark {mark!r} in {line!r}")
    words = (pair.split(":") for pair in valued.get("words", "").split(",") if pair)
    form = ListForm(valued.get("form", "repeated"))
    return OptionField(
        name=name,
        kind=OptionKind(kind),
        aliases=tuple(aliases),
        repeated=kind == "list" and form is ListForm.REPEATED,
        flag=valued.get("flag", ""),
        negative=f"--no-{name.replace('_', '-')}" if "no" in plain else "",
        group=group,
        basic="basic" in plain,
        list_form=form,
        names_file=next((_FILE_MARKS[mark] for mark in plain if mark in _FILE_MARKS), NamesFile.NO),
        pair="pair" in plain,
        switch="switch" in plain,
        suffixes="suffixes" in plain,
        risk=Risk[valued.get("risk", "none").upper().replace("-", "_")],
        words=tuple((word, int(number)) for word, number in words),
    )


def _with_negative(row: OptionField, names: dict[str, OptionField]) -> OptionField:
    opposite = names.get(f"no_{row.name}")
    if row.kind is not OptionKind.BOOL or opposite is None:
        return row
    return OptionField(**{**row.__dict__, "negative": opposite.long_flag})


def plain_name(name: str) -> str:
    """An option's or flag's name without leading dashes and with `_` for `-`, behind a dot as written.

    vLLM reads `--json-option.some_key`, where what follows the dot is a key of a JSON object and not a flag's name.
    """
    head, dot, tail = name.lstrip("-").partition(".")
    return head.replace("-", "_") + dot + tail


class FieldIndex:
    """Looks options up by name, alias or flag. Case matters: llama.cpp's `-C` is not `-c`."""

    def __init__(self, fields: tuple[OptionField, ...]) -> None:
        self.fields = fields
        self._by_name = {alias: option for option in fields for alias in option.aliases}
        self._by_name.update({_every_dash(option.flag): option for option in fields if option.flag})
        # Last, since a field's own name wins: llama.cpp's no_mmproj is a field and an alias of another.
        self._by_name.update({option.name: option for option in fields})

    def find(self, name: str) -> OptionField | None:
        """The option called `name`, with or without leading dashes, with `-` or `_`; None when there is none."""
        return self._by_name.get(_every_dash(name))


def _every_dash(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
