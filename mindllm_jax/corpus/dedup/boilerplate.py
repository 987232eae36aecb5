"""Selects the lines of a document that are boilerplate, from how often each pair of neighbouring lines occurs.

A line with other neighbours in every document is a form of words, such as "exit(0);" or "On success, 0 is returned.".
The head and the foot of a page, and a block between two paragraphs, have the same neighbours again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.corpus.dedup.line_kinds import (
    begins_lower,
    code,
    continues,
    ends_sentence,
    headings,
    is_field,
    is_marked_heading,
    is_underline,
    paragraphs_around,
)
from mindllm_jax.corpus.filters.format import fenced
from mindllm_jax.corpus.settings import Repeats

_MENU_CHARS = 60
"""Characters of a line in a menu at most."""


class Lines(NamedTuple):
    """The lines of a document.

    Attributes:
        all: all lines, blank ones included.
        counted: the numbers of the lines whose pairs are counted: neither blank nor a marked heading above everything,
            which is the title of the document and differs on every page of a site.
    """

    all: list[str]
    counted: list[int]


def split_lines(text: str) -> Lines:
    """Splits a text into its lines."""
    lines = text.split("\n")
    counted = [number for number, line in enumerate(lines) if line and not line.isspace()]
    if counted and is_marked_heading(lines[counted[0]]):
        counted = counted[1:]
    return Lines(lines, counted)


def boilerplate(lines: Lines, text: str, frequent: np.ndarray, config: Repeats) -> dict[int, str]:
    """Returns the numbers of the lines to remove, each with the place that it is removed from.

    Args:
        lines: of the document.
        text: of the document.
        frequent: bool [n + 1] for n counted lines: whether the pair that ends with each is frequent. The first pair is
            the beginning of the document with the first line, the last pair the last line with the end.
        config: settings.
    """
    count = len(lines.counted)
    linked = frequent.tolist()
    first, last = 0, count
    while first < count and linked[first]:
        first += 1
    while last > first and linked[last]:
        last -= 1
    runs = list(_linked_runs(linked, first, last))
    if not first and last == count and not runs:
        return {}
    page = _Page(lines, text, [(0, first), (last, count), *runs])
    if first == count and all(page.removable):
        return dict.fromkeys(lines.counted, "head")
    removed = [(run, "head") for run in page.head(first)]
    removed += [(run, "foot") for run in page.foot(last)]
    removed += [(run, "inside") for start, end in runs for run in page.inside(start, end)]
    places: dict[int, str] = {}
    for run, place in removed:
        numbers = [lines.counted[k] for k in run]
        words = [lines.all[number].strip() for number in numbers if _has_words(lines.all[number])]
        lone = place != "inside" and any(len(line) >= config.min_lone_chars for line in words)
        if len(words) >= config.min_run_lines or lone:
            places.update(dict.fromkeys(numbers, place))
    return places


class _Page:
    """A document whose runs of frequent lines are cut to the parts that its text does not need.

    The methods take and return places in `Lines.counted`.
    """

    def __init__(self, lines: Lines, text: str, runs: Sequence[tuple[int, int]]) -> None:
        """Looks at the paragraphs of the runs [start, end) and at the line before each and after it."""
        self.lines = lines
        count = len(lines.counted)
        heading, statement = [False] * len(lines.all), [False] * len(lines.all)
        done = 0  # lines looked at: a paragraph of a table or a poem may have many runs
        for start, end in sorted(runs):
            if start == end or (last := lines.counted[min(end, count - 1)]) < done:
                continue
            around = paragraphs_around(lines.all, lines.counted[max(0, start - 1)], last)
            part = slice(max(done, around.start), around.stop)
            heading[part] = headings(lines.all[part])
            statement[part] = code(lines.all[part])
            done = part.stop
        in_fence = in_fences(text, len(lines.all))
        self.heading = [heading[number] for number in lines.counted]
        self.removable = [not (statement[number] or in_fence[number]) for number in lines.counted]

    def head(self, end: int) -> Iterator[range]:
        """Yields the part of the head [0, end) to remove: up to code and up to the last heading with text under it."""
        end = next((k for k in range(end) if not self.removable[k]), end)
        if end < len(self.heading) and not self._begins_section(end):
            end = next((k for k in reversed(range(end)) if self._begins_section(k)), end)
            while end and self._adjacent(end) and continues(self._line(end - 1), self._line(end), True):
                end -= 1
        yield range(end)

    def foot(self, start: int) -> Iterator[range]:
        """Yields the part of the foot [start, n) to remove: after code, from the beginning of a section or block."""
        count = len(self.heading)
        start = next((k + 1 for k in reversed(range(start, count)) if not self.removable[k]), start)
        while start < count and not (self._begins_block(start) and not self._is_under_heading(start)):
            start += 1
        if start:
            yield range(start, count)

    def inside(self, start: int, end: int) -> Iterator[range]:
        """Yields the menus in [start, end): complete blocks of short lines that no heading stands over."""
        for first, last in self._blocks(start, end):
            if not self._begins_block(first) or self._is_under_heading(first) or not self._ends_block(last):
                continue
            block = range(first, last)
            if all(self.removable[k] and not self.heading[k] for k in block) and all(map(self._is_menu, block)):
                yield block

    def _blocks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the stretches of [start, end) between lines that must stay."""
        first = start
        for k in range(start, end + 1):
            if k == end or self.heading[k] or not self.removable[k]:
                if first < k:
                    yield first, k
                first = k + 1

    def _is_menu(self, k: int) -> bool:
        line = self._line(k).strip()
        # An option of a program, such as --help, stands above its meaning.
        is_option = line.startswith("-") and line[1:2].strip(" ") != ""
        return len(line) <= _MENU_CHARS and not ends_sentence(line) and not begins_lower(line) and not is_option

    def _begins_section(self, k: int) -> bool:
        """Whether a line is a heading and not the underline of the line above it."""
        return self.heading[k] and not (k and self.heading[k - 1] and is_underline(self._line(k)))

    def _is_under_heading(self, k: int) -> bool:
        return k > 0 and self.heading[k - 1] and not self._begins_section(k)

    def _begins_block(self, k: int) -> bool:
        if k == 0 or self._begins_section(k) or is_field(self._line(k)):
            return True
        before = self._line(k - 1)
        return ends_sentence(before) or (not self._adjacent(k) and not begins_lower(self._line(k)))

    def _ends_block(self, end: int) -> bool:
        if end == len(self.heading):
            return True
        return not begins_lower(self._line(end)) and (not self._adjacent(end) or ends_sentence(self._line(end - 1)))

    def _adjacent(self, k: int) -> bool:
        """Whether no blank line stands before a line."""
        return self.lines.counted[k] == self.lines.counted[k - 1] + 1 if k else False

    def _line(self, k: int) -> str:
        return self.lines.all[self.lines.counted[k]]


def _linked_runs(linked: Sequence[bool], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yields the runs [first, last) of at least two lines of [start, end) in which each pair is frequent."""
    first = start
    for k in range(start + 1, end + 1):
        if k == end or not linked[k]:
            if k - first > 1:
                yield first, k
            first = k


def in_fences(text: str, count: int) -> list[bool]:
    """Returns which of the `count` lines of a text stand in code fences, the fences included."""
    flags, number = [False] * count, 0
    if "```" not in text and "~~~" not in text:
        return flags
    for part, is_code in fenced(text):
        last = number + part.count("\n")
        if is_code:
            flags[number : last + 1] = [True] * (last + 1 - number)
        number = last
    return flags


def _has_words(line: str) -> bool:
    """Whether a line may be boilerplate by itself: rules and brackets are removed with other lines only."""
    return any(map(str.isalpha, line))
