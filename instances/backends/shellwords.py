"""Split a pasted command line into words as a POSIX shell would, without running anything."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from instances.backends.base import ParseError

LONGEST_COMMAND = 64 * 1024
"""Characters."""

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_WINDOWS_PROGRAM = re.compile(r"""\s*["']?[^\s"']*\.exe\b""", re.IGNORECASE)
_WINDOWS_PATH_START = re.compile(r"(?:--?[\w-]+=)?(?:[A-Za-z]:|\.{1,2})")
# `\`, and the continuation signs of PowerShell and cmd.exe behind a blank.
_CONTINUATION = re.compile(r"(?:\\|(?<=\s)[`^])[ \t]*\r?\n[ \t]*")
_REDIRECTION = re.compile(r"[0-9&]?(>>?|<)(&?[0-9-]|.*)|\|\|?|&")


@dataclass(frozen=True)
class Word:
    """One word: `text` as the program would get it, `raw` as it was typed, quotes included."""

    text: str
    raw: str

    @property
    def is_quoted(self) -> bool:
        """Whether it begins with a quote, so that a dash behind it was meant as text."""
        return self.raw[:1] in ("'", '"')

    def after_equals(self) -> Word:
        """The word behind the first `=`."""
        return Word(self.text.partition("=")[2], self.raw.partition("=")[2])

    def value(self) -> str:
        """The text, or the raw text where only that is JSON: people type `{"a":1}` without quotes around it."""
        if self.raw[:1] in ("{", "[") and self.raw != self.text and _is_json(self.raw) and not _is_json(self.text):
            return self.raw
        return self.text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def split_words(text: str) -> list[Word]:
    r"""The words of a command line; line ends divide words, with or without a continuation sign before them.

    Backslashes stay what they are in Windows paths (`C:\models\a.gguf`, and everywhere behind a program `.exe`).
    Nothing means anything to a shell here: `|` is a word like any other. Raises ParseError.
    """
    if len(text) > LONGEST_COMMAND:
        raise ParseError("parse_error", f"the command is longer than {LONGEST_COMMAND} characters; shorten it")
    if found := _FORBIDDEN.search(text):
        raise ParseError("parse_error", f"the command contains the control character U+{ord(found[0]):04X}; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParseError("parse_error", "the command is not valid Unicode text; remove the broken character") from None
    words = _Splitter(text).run()
    if not words:
        raise ParseError("invalid_command", "Command cannot be empty")
    return words


def without_shell_syntax(words: list[Word]) -> list[Word]:
    """One command of those a shell would see: the last one joined with `&&` or `;`, up to a pipe, `>` or `&`.

    What the earlier ones exported stays, in front.
    """
    commands: list[list[Word]] = [[]]
    for word in words:
        if word.raw in ("&&", ";"):
            commands.append([])
        else:
            commands[-1].append(word)
    *earlier, last = [command for command in commands if command] or [[]]
    end = next((at for at, word in enumerate(last) if at and _REDIRECTION.fullmatch(word.raw)), len(last))
    exports = [word for command in earlier if command[0].text == "export" for word in command]
    return [*exports, *last[:end]]


class _Splitter:
    def __init__(self, text: str) -> None:
        self._source = text
        self._at = 0
        self._windows = _WINDOWS_PROGRAM.match(text) is not None
        self._words: list[Word] = []
        self._text: list[str] | None = None
        self._start = 0
        self._opened = 0
        self._has_backslash = False
        self._is_path = False

    def run(self) -> list[Word]:
        source = self._source
        while self._at < len(source):
            char = source[self._at]
            if char in "\\`^" and (found := _CONTINUATION.match(source, self._at)):
                self._end_word()
                self._at = found.end()
            elif char.isspace():
                self._end_word()
                self._at += 1
            elif char == "'":
                self._add(self._single_quoted())
            elif char == '"':
                self._add(self._double_quoted())
            elif char == "\\":
                self._add(self._escaped())
            else:
                self._at += 1
                self._add(char, started_before=1)
        self._end_word()
        return self._words

    def _add(self, text: str, started_before: int | None = None) -> None:
        if self._text is None:
            self._text = []
            self._start = self._at - started_before if started_before else self._opened
        self._text.append(text)

    def _end_word(self) -> None:
        if self._text is not None:
            self._words.append(Word("".join(self._text), self._source[self._start : self._at]))
            self._text = None
            self._has_backslash = False

    def _single_quoted(self) -> str:
        self._opened = self._at
        end = self._source.find("'", self._at + 1)
        if end < 0:
            raise ParseError("parse_error", "unterminated quoted string")
        inside = self._source[self._at + 1 : end]
        self._at = end + 1
        return inside

    def _double_quoted(self) -> str:
        self._opened = self._at
        inside: list[str] = []
        at = self._at + 1
        source = self._source
        while at < len(source) and source[at] != '"':
            following = source[at + 1 : at + 2]
            if source[at] == "\\" and following and following in '"\\$`\n' and not self._keeps_backslash(following):
                inside.append("" if following == "\n" else following)
                at += 2
            else:
                inside.append(source[at])
                at += 1
        if at >= len(source):
            raise ParseError("parse_error", "unterminated quoted string")
        self._at = at + 1
        return "".join(inside)

    def _keeps_backslash(self, following: str) -> bool:
        return self._windows and following == "\\"

    def _escaped(self) -> str:
        self._opened = self._at
        following = self._source[self._at + 1 : self._at + 2]
        if self._text is None or not self._has_backslash:
            # The first backslash of a word decides for the others.
            self._has_backslash = True
            self._is_path = self._windows or _WINDOWS_PATH_START.fullmatch("".join(self._text or ())) is not None
        if self._is_path and following not in ("'", '"', " "):
            self._at += 1
            return "\\"
        self._at += 2 if following else 1
        return following
