"""Chooses the lines of a page that belong to its article, and measures how much of a text is menus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, compress, groupby

LINK = "\ufdd0"  # around the words of a link that is not part of a sentence; a noncharacter, so no text has it
# One set of signs at its beginning: the regex engine looks for the next of them before it tries anything else.
SENTENCE_END = re.compile(r"[.!?。！？](?:(?<=[。！？])|(?=[\s\"'”’)\]]|$))")
_MARKED = re.compile(f"{LINK}([^{LINK}]*){LINK}")
_HAN = re.compile("[\u3400-\u9fff]")
_MIN_PROSE_CHARS = 40  # of a line; a Han character counts as two
# The share of a text's prose that its main content may lack. Where it lacks more, the heuristics took something else
# for the article. A text with few menus has little to gain from them.
_MAX_LOST, _MAX_LOST_OF_DENSE, _DENSE = 0.35, 0.05, 0.95
_MAX_TITLE_LINES = 2  # above the main content of a text with few menus: the title and the author
_MAX_MENU_DENSITY, _MIN_MENU_LINES = 0.5, 5


def text_density(text: str) -> float:
    """Returns the share of a text's characters, without blanks, outside of marked links: 0 to 1, 0 for no text.

    An article has a density near 1, a list of headlines or a portal's front page one near 0.
    """
    length = _length(text)
    return 1 - _length("".join(_MARKED.findall(text))) / length if length else 0.0


def article_lines(text: str, main: str) -> str:
    """Returns the part of a page's text that its main content spans.

    The main content, as heuristics extract it, may lack parts of the article. So the part begins and ends with it or
    with the prose next to it, and between prose only menus are removed. A text whose main content lacks much of its
    prose is returned as it is.

    Args:
        text: all lines of the page, with marked links.
        main: some of these lines, in the same order.
    """
    lines = text.splitlines()
    stripped = list(map(str.strip, lines))
    prose = list(map(_is_prose, stripped))
    chars = sum(map(len, compress(stripped, prose)))
    if not chars:
        return text
    main_lines = list(filter(None, map(str.strip, main.splitlines())))
    kept = set(main_lines)
    lost = sum(len(line) for line in compress(stripped, prose) if line not in kept)
    dense = text_density(text) >= _DENSE
    if not main_lines or lost > chars * (_MAX_LOST_OF_DENSE if dense else _MAX_LOST):
        return text if dense else "\n".join(_without_menus(lines, prose))
    last = _end(stripped, main_lines)
    first = len(lines) - 1 - _end(stripped[::-1], main_lines[::-1])
    while first > 0 and (prose[first - 1] or not stripped[first - 1]):
        first -= 1
    above = [index for index in range(first) if stripped[index]][-_MAX_TITLE_LINES:]
    if dense and above and not any(LINK in stripped[index] for index in above):
        first = above[0]
    while last + 1 < len(lines) and (prose[last + 1] or not stripped[last + 1]):
        last += 1
    span = slice(first, last + 1)
    prose_before = list(accumulate(prose[span], initial=0))
    result: list[str] = []
    of_prose: list[bool] = []  # whether each line of the result is prose
    run: list[str] = []  # lines that the main content lacks
    for position, (line, key, is_prose) in enumerate(zip(lines[span], stripped[span], prose[span], strict=True)):
        if not is_prose and key not in kept:
            run.append(line)
            continue
        if run:
            between = dense or 0 < prose_before[position] < prose_before[-1]
            result += run if between and text_density("\n".join(run)) >= _MAX_MENU_DENSITY else [""]
            of_prose += [False] * (len(result) - len(of_prose))
            run.clear()
        result.append(line)
        of_prose.append(is_prose)
    return "\n".join(result if dense else _without_menus(result, of_prose)).strip("\n")


def _without_menus(lines: list[str], prose: list[bool]) -> list[str]:
    """Returns lines without the runs of links before the first and after the last line of prose."""
    if True not in prose:
        return lines
    first, end = prose.index(True), len(prose) - prose[::-1].index(True)
    return [*_without_link_runs(lines[:first]), *lines[first:end], *_without_link_runs(lines[end:])]


def _without_link_runs(lines: list[str]) -> Iterator[str]:
    """Yields lines without runs of at least `_MIN_MENU_LINES` links."""
    for is_menu, group in groupby(lines, key=_may_be_menu):
        run = list(group)
        if not is_menu or sum(LINK in line for line in run) < _MIN_MENU_LINES:
            yield from run
        else:
            yield ""


def _may_be_menu(line: str) -> bool:
    """Returns whether a line is blank or mostly marked links."""
    return not line.strip() or (LINK in line and text_density(line) < _MAX_MENU_DENSITY)


def _length(text: str) -> int:
    """Returns the number of characters without blanks and marks."""
    return len(text) - sum(map(text.count, (" ", "\n", "\t", LINK)))


def _is_prose(line: str) -> bool:
    """Returns whether a line is long, ends a sentence and has no link that stands alone."""
    if 2 * len(line) < _MIN_PROSE_CHARS or LINK in line or SENTENCE_END.search(line) is None:
        return False
    return len(line) >= _MIN_PROSE_CHARS or len(line) + len(_HAN.findall(line)) >= _MIN_PROSE_CHARS


def _end(lines: list[str], main_lines: list[str]) -> int:
    """Returns the smallest index by which a text has had all lines of its main content in their order."""
    present = set(lines)
    waiting = iter([line for line in main_lines if line in present])
    expected = next(waiting, None)
    for index, line in enumerate(lines):
        if line == expected:
            expected = next(waiting, None)
            if expected is None:
                return index
    return len(lines) - 1
