"""Rules for a removal of lines that damages the text around it, to measure what a step did to a document.

They judge what is left and know nothing of why a line was removed, so a line that the selection of boilerplate takes by
mistake counts here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from mindllm_jax.corpus.dedup.line_kinds import begins_lower, code, ends_sentence, headings, is_field, is_underline

Rule = Literal["mid-sentence", "heading", "code", "paragraph", "lone line"]
"""`mid-sentence`: a sentence lost its beginning or its end. `heading`: the text under a removed heading is left, or a
heading whose text was removed. `code`: lines of code went and the rest of the page stayed. `paragraph`: a long paragraph
went from between two others. `lone line`: one line went from between two others."""

_LONG, _WORDS = 200, 4


def damage(lines: Sequence[str], removed: set[int]) -> Iterator[tuple[int, Rule]]:
    """Yields the number of the first line and the rule of each wrong removal.

    Args:
        lines: of the document before, blank ones included.
        removed: the numbers of the lines that are gone.
    """
    words = [number for number, line in enumerate(lines) if line.strip()]
    heading, statement = headings(lines), code(lines)
    place = 0
    while place < len(words):
        end = place
        while end < len(words) and words[end] in removed:
            end += 1
        if end > place:
            run = words[place:end]
            before = words[place - 1] if place else None
            after = words[end] if end < len(words) else None
            yield from ((run[0], rule) for rule in _broken(lines, run, before, after, heading, statement))
        place = max(end, place + 1)


def _broken(
    lines: Sequence[str],
    run: list[int],
    before: int | None,
    after: int | None,
    heading: Sequence[bool],
    statement: Sequence[bool],
) -> Iterator[Rule]:
    first, last = run[0], run[-1]
    if before is not None and _continues(lines, before, first, heading):
        yield "mid-sentence"
    elif after is not None and _continues(lines, last, after, heading):
        yield "mid-sentence"
    if after is not None and not heading[after] and any(heading[n] for n in run):
        yield "heading"
    elif before is not None and heading[before] and not heading[first] and (after is None or heading[after]):
        yield "heading"
    if any(statement[number] for number in run):
        yield "code"
    if before is not None and after is not None:
        if any(len(lines[number]) >= _LONG for number in run):
            yield "paragraph"
        elif len(run) == 1:
            yield "lone line"


def _continues(lines: Sequence[str], number: int, following: int, heading: Sequence[bool]) -> bool:
    """Whether a sentence seems to go on from a line to the one after it."""
    if heading[number] or heading[following] or ends_sentence(lines[number]) or is_underline(lines[number]):
        return False
    if is_field(lines[following]):
        return False
    # Two lines of few words are entries of a menu.
    if max(len(lines[number].split()), len(lines[following].split())) < _WORDS:
        return False
    return begins_lower(lines[following]) or (following == number + 1 and len(lines[number]) > 40)
