"""Rules for a removal of lines that damages the text around it, to measure what a step did to a document.

They judge what is left and know nothing of why a line was removed, so a line that the selection of boilerplate takes by
mistake counts here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from mindllm_jax.corpus.dedup.line_kinds import code, continues, headings, paragraphs_around

Rule = Literal["mid-sentence", "heading", "code", "paragraph", "lone line"]
"""`mid-sentence`: a sentence lost its beginning or its end. `heading`: the text under a removed heading is left, or a
heading without its text. `code`: lines of code are gone. `paragraph`: a long paragraph is gone from between two
others. `lone line`: one line is gone from between two others."""

_LONG = 200


def damage(lines: Sequence[str], removed: set[int]) -> Iterator[tuple[int, Rule]]:
    """Yields the number of the first line and the rule of each wrong removal.

    Args:
        lines: of the document before, blank ones included.
        removed: the numbers of the lines that are gone.
    """
    words = [number for number, line in enumerate(lines) if line.strip()]
    page = _Page(lines, [False] * len(lines), [False] * len(lines), words[0] if words else 0)
    place = 0
    while place < len(words):
        end = place
        while end < len(words) and words[end] in removed:
            end += 1
        if end > place:
            run = words[place:end]
            before = words[place - 1] if place else None
            after = words[end] if end < len(words) else None
            page.look_at(run[0] if before is None else before, run[-1] if after is None else after)
            for rule in page.broken(run, before, after):
                yield run[0], rule
        place = max(end, place + 1)


class _Page(NamedTuple):
    """The lines of a document, with those looked at that are headings or code."""

    lines: Sequence[str]
    heading: list[bool]
    code: list[bool]
    title: int

    def look_at(self, first: int, last: int) -> None:
        """Finds the headings and the code in the paragraphs from the one of line `first` to the one of line `last`."""
        part = paragraphs_around(self.lines, first, last)
        self.heading[part] = headings(self.lines[part])
        self.code[part] = code(self.lines[part])

    def broken(self, run: list[int], before: int | None, after: int | None) -> Iterator[Rule]:
        """Yields the rules that the removal of a run breaks; `before` and `after` are the lines left around it."""
        cut_before = before is not None and self._continues(before, run[0])
        cut_after = after is not None and self._continues(run[-1], after)
        if cut_before or cut_after:
            yield "mid-sentence"
        last_section = after is None or self.heading[after]
        beheaded = not last_section and any(self.heading[number] for number in run)
        emptied = last_section and before is not None and self.heading[before] and not self.heading[run[0]]
        # A title stands above all sections, not only above the lines that follow it.
        after_title = before is not None and before == self.title and self.heading[before]
        emptied = emptied and not after_title
        if beheaded or emptied:
            yield "heading"
        if any(self.code[number] for number in run):
            yield "code"
        if before is not None and after is not None:
            if any(len(self.lines[number]) >= _LONG for number in run):
                yield "paragraph"
            elif len(run) == 1 and not after_title:
                yield "lone line"

    def _continues(self, number: int, following: int) -> bool:
        if self.heading[number] or self.heading[following]:
            return False
        return continues(self.lines[number], self.lines[following], following == number + 1)
