"""The form of a privacy pattern, and the fast searches for lines that may have a match."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class Pattern(NamedTuple):
    """A kind of personal data: matches of `regex` that `check` accepts are replaced by `<marker>`.

    If `regex` has a group `value`, with which it ends, only the group is replaced. A line without any of
    `words` has no match.
    """

    marker: str
    regex: re.Pattern[str]
    check: Callable[[re.Match[str]], bool]
    words: tuple[str, ...] = ()


class Group(NamedTuple):
    """Patterns of which every match holds a sign that a search finds ten times as fast.

    `signs` returns the places of signs in a text. Only lines that have one are searched, or the complete text if
    matches span lines (`lines` is False).
    """

    signs: Callable[[str], list[int]]
    patterns: tuple[Pattern, ...]
    lines: bool = True


def words(*words: str) -> Callable[[str], list[int]]:
    """Returns a function that returns the places of words in a text."""

    def places(text: str) -> list[int]:
        starts: list[int] = []
        for word in words:
            if word in text:
                starts += (match.start() for match in re.finditer(re.escape(word), text))
        return sorted(starts)

    return places


def matches(*regexes: str) -> Callable[[str], list[int]]:
    """Returns a function that returns the places of matches.

    A regex that begins with a literal or one class of characters is fast.
    """
    compiled = [re.compile(regex, re.ASCII) for regex in regexes]
    return lambda text: sorted(match.start() for regex in compiled for match in regex.finditer(text))
