"""Kinds of lines in plain text: headings, code without fences, ends of sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SENTENCE_END = re.compile(r"[.!?:;。！？：；…][\"'”’»)\]）」』】*_]*$|[”」』]$")
_UNDERLINE, _RULES = re.compile(r"([=~^*+#-])\1{2,}"), tuple("=~^*+#-")
_WRAPPED, _WORDS, _MAX_STATEMENT = 40, 4, 300
"""Columns that a wrapped line has at least, words of a line in a sentence, and characters of a line of code."""
_FIELD = re.compile(r"[^\W\d_a-z][\w ]{0,20}[:：]\s?[^\s/]")
_MARKED = re.compile(r"#{1,6}(?:\s|$)|={1,5} \S")
# Ends of statements and blocks; a call, alone or as the head of a block.
_CODE_ENDS = tuple("{};),&|+\\")
_CODE_END = re.compile(r"(?:[{}]|[\w)\]\"'+-]\s?;|\w\(.*[){,&|+\\])$")
# Comments, and words that begin a statement, in C, Python, shells, SQL and Basic.
_CODE = re.compile(
    r"[{}]|//|/\*|\*/|#\s*(?:include|define|undef|if|ifdef|ifndef|else|endif|pragma|!/)|[$>%]\s\S|<[/?!]?\w"
    r"|(?:def|class|struct|enum|union|static|const|extern|void|int|char|long|double|float|unsigned|typedef|var|let"
    r"|import|from|return|package|using|namespace|public|private|func|fn)\b[^.?!。]*[\w\"'(){},:;*=>\]]$"
    r"|(?i:End (?:Sub|Function|If|With|Select|Type|Property|Class))$"
    r"|(?:Sub|Function|Dim|ReDim|Exit (?:Sub|Function|For|Do)|Option Explicit|On Error|Do (?:While|Until)"
    r"|Select Case|Next \w|Loop|Wend)\b[^.?!。]*$"
    r"|(?:else|then|fi|done|do|esac|end|begin|next|loop|wend|pass|break|continue|try|default)\b[:;]?$"
    r"|(?:if|for|while|switch|elif|except|with)\b.*[:{)]$|\w[\w.\[\]>-]*\s?[-+*/|]?=\s?\S+$|\S+\s?:=\s"
)


def ends_sentence(line: str) -> bool:
    """Whether a line ends with the punctuation of a sentence, quotes and brackets after it apart."""
    return bool(_SENTENCE_END.search(line.rstrip()))


def begins_lower(line: str) -> bool:
    """Whether a line begins with a lower-case letter, which continues a sentence in most texts."""
    return line.lstrip()[:1].islower()


def continues(line: str, following: str, adjacent: bool) -> bool:
    """Whether the next line seems to continue the sentence of a line.

    Args:
        line: a line that is no heading.
        following: the next line that is not blank, no heading either.
        adjacent: whether no blank line stands between them.
    """
    if ends_sentence(line) or is_underline(line) or is_field(following):
        return False
    # Two short lines of few words are entries of a menu.
    if max(_width(line), _width(following)) <= _WRAPPED and max(len(line.split()), len(following.split())) < _WORDS:
        return False
    return begins_lower(following) or (adjacent and _width(line) > _WRAPPED)


def _width(line: str) -> int:
    """Returns the columns of a line on a terminal, where a Chinese character has two."""
    return len(line) + sum(letter > "\u2e7f" for letter in line)


def is_field(line: str) -> bool:
    """Whether a line is a name and a value, such as "Author: Li", which continues no sentence."""
    return bool(_FIELD.match(line.strip()))


def is_marked_heading(line: str) -> bool:
    """Whether a line is a heading by the marks of Markdown or AsciiDoc."""
    return line.startswith(("#", "=")) and bool(_MARKED.match(line))


def is_underline(line: str) -> bool:
    """Whether a line is a rule of one repeated sign, as under a heading or between sections."""
    line = line.strip()
    return line.startswith(_RULES) and bool(_UNDERLINE.fullmatch(line))


def paragraphs_around(lines: Sequence[str], first: int, last: int) -> slice:
    """Returns the place of the paragraphs from the one of line `first` to the one of line `last`."""
    while first and lines[first - 1].strip():
        first -= 1
    while last + 1 < len(lines) and lines[last + 1].strip():
        last += 1
    return slice(first, last + 1)


def headings(lines: Sequence[str]) -> list[bool]:
    """Returns which lines are headings: marked or underlined ones, and lines in capitals.

    The underline counts as a part of its heading. Lines in capitals that follow each other are a menu or a table.
    """
    flags = [is_marked_heading(line) for line in lines]
    capitals = [_in_capitals(line) for line in lines]
    for number, line in enumerate(lines):
        above = lines[number - 1] if number else ""
        if is_underline(line) and above.strip() and not is_underline(above) and not ends_sentence(above):
            flags[number - 1] = flags[number] = True
        if capitals[number] and not any(capitals[max(0, number - 1) : number] + capitals[number + 1 : number + 2]):
            flags[number] = True
    return flags


def code(lines: Sequence[str]) -> list[bool]:
    """Returns which lines are code without fences, by the signs of statements; blank lines are not.

    A line between two lines of code, or next to one in a paragraph that is mostly code, is code as well.
    """
    flags = [bool(line.strip()) and _is_statement(line) for line in lines]
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and lines[end].strip():
            end += 1
        if 2 * sum(flags[start:end]) >= end - start > 0:
            flags[start:end] = [True] * (end - start)
        start = end + 1
    return flags


def _is_statement(line: str) -> bool:
    if line.startswith(("    ", "\t")):
        return True
    stripped = line.strip()
    if len(stripped) > _MAX_STATEMENT:
        return False
    return (stripped.endswith(_CODE_ENDS) and bool(_CODE_END.search(stripped))) or bool(_CODE.match(stripped))


def _in_capitals(line: str) -> bool:
    stripped = line.strip()
    if len(stripped) > 60 or not stripped.isupper():
        return False
    letters = [letter for letter in stripped if letter.isalpha()]
    return len(letters) > 1 and all(map(str.isupper, letters))
