"""Strips boilerplate around a text and normalises its Unicode; keeps its paragraphs."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.privacy import without_personal_data
from mindllm_jax.corpus.outcomes import record

# Quantifiers are possessive (`*+`) and scans stop where the next could begin, so the time is linear in the text, also
# for a text that almost matches everywhere.

# YAML or TOML between its marks at the top. A rule above a paragraph looks alike, but no field follows it.
_FRONT_MATTER = re.compile(r"\A\s*+(---|\+\+\+)[ \t]*+\n(?=[ \t]*+[\w\"'-]++[ \t]*+[:=]).*?\n\1[ \t]*+(?:\n|\Z)", re.S)
# Lines such as "Title: …" above the first blank line, as in mail and PEPs. At least three have names that are theirs:
# dialogues, questions with their answers and records of patients look alike.
_FIELD = r"([A-Z][\w-]{1,24}):(?:[ \t][^\n]*+)?\n(?:[ \t][^\n]*+\n)*+"
_FIELDS = re.compile(rf"\s*+((?:{_FIELD}){{3,}}+)(?=\s*\n)", re.A)
_NAMES = re.compile(_FIELD, re.A)
_HEADER_NAMES = frozenset(
    "archived-at author authors bcc bdfl-delegate category cc content-transfer-encoding content-type created date"
    " delivered-to discussions-to from in-reply-to keywords last-modified license lines list-id message-id mime-version"
    " newsgroups organization pep pep-delegate post-history python-version received references replaces reply-to"
    " requires resolution return-path sender sponsor status subject superseded-by tags title to topic type updated url"
    " version".split()
)
_MIN_HEADER_NAMES = 3
_HEADING = re.compile(r"^(?:#|=) |^={3,}$", re.M)  # of Markdown, AsciiDoc, reStructuredText
_QUOTES = "\"'"
_TITLE = re.compile(r"^[\"']?title[\"']?[ \t]*+[:=][ \t]*+(?![>|]-?$)(\S[^\n]*+)$", re.M | re.I)
# `[#]: key: "value"` of translation projects, `[1]: https://…` of Markdown. Notes and speakers are text.
_REFERENCES = re.compile(
    r"^[ \t]*+(?:\[#\]:|\[((?!\^)[^\[\]\n]{1,80})\]:[ \t]*+"
    r"<?(?:https?:|ftp:|mailto:|#|\.{0,2}/|data:|[\w-]++\.(?:[\w-]++#|(?:html|md)\b)))[^\n]*+\n?",
    re.M,
)
# References to these: `![a picture][1]`, `[words][1]`, `[words][]`, `[label]`; not before an index.
_WORDS = r"\[([^\[\]\n]*+(?:\n[^\[\]\n]++)?)\]"
_BEFORE = r"(?<![!A-Za-z0-9_`\])])"
_PICTURE = re.compile(rf"!{_WORDS}\[([^\[\]\n]{{0,80}})\]")
_REFERRING = re.compile(rf"{_BEFORE}{_WORDS}(?:\[([^\[\]\n]{{0,80}})\]|(?![\[(:]))")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_IMAGE = re.compile(r"!\[[^\[\]\n]*+\]\([^()\n]*+(?:\([^()\n]*+\)[^()\n]*+)*+\)")
_LINK = re.compile(
    r"(?<!!)\[([^\[\]\n]*+)\]\((?:https?:|mailto:|ftp:|[/.#])[^()\s]*+(?:\([^()\s]*+\)[^()\s]*+)*+"
    r"(?: \"[^\"\n]*+\")?\)"
)
# Of a text with so many Chinese characters, lines of code or output; frames of a table are not of ASCII.
_INDENTED = re.compile(r"^(?: {4}|\t)[\t\x20-\x7e]*+(?:\n|\Z)", re.M)
_HAN, _MIN_HAN = re.compile("[\u4e00-\u9fff]"), 50
# Lines of a Markdown text, which has headings with marks, that hold nothing but tags: a browser shows nothing of them.
_MARKDOWN = re.compile(r"^#{1,6}[ \t]", re.M)
_TAG_LINES = re.compile(
    r"^ {0,3}(?:</?(?:div|span|center|figure|details|section|p|a|br|hr|img|picture|source|iframe|table|thead|tbody|tr"
    r"|td|th)\b[^<>\n]*+>[ \t]*+)++(?:\n|\Z)",
    re.M,
)
_FENCE = re.compile(r"^[ \t]*+(`{3,}+(?=[^`\n]*+$)|~{3,}+)([^\n]*+)$", re.M)
# Listings of AsciiDoc, which is known by its headings; with `==` at both ends they are of a wiki.
_ASCIIDOC = re.compile(r"^={2,5} [^=\n]*+$", re.M)
_LISTING = re.compile(_FENCE.pattern.replace("|~{3,}+", r"|~{3,}+|(?:-{4,}+|\.{4,}+)(?=[ \t]*$)"), re.M)
# Project Gutenberg's licence after each of its books, with what stands before the next one, and before the first.
_GUTENBERG_START = r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*+\n"
_GUTENBERG = (
    re.compile(
        r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg)"
        rf".*?(?:{_GUTENBERG_START}|\Z)",
        re.S | re.M,
    ),
    re.compile(rf"\A.{{0,20000}}?{_GUTENBERG_START}", re.S | re.M),
)
# A comment at the top that names a licence. One line with `#`, or lines with several `#`, are headings.
_LICENCE = re.compile(r"\A\s*+(?:/\*.*?\*/|(?:(?://|\.\. |;;)[^\n]*+\n)++|(?:#(?!#)[^\n]*+\n){2,}+)", re.S)
# Entities whose ampersand became a space, as in some news collections; "see #39; and" alone may be a number.
_BROKEN_ENTITY = re.compile(r" ?(?<![&\w])(?<!&amp;)(?:#(\d{2,4})|quot);")
_BROKEN_ENTITIES = re.compile(r"\w #39;(?:s|t|re|ll|ve|d|m)\b|(?<![&\w])(?<!&amp;)quot;")
_LICENCE_WORDS = re.compile(r"copyright|licen[sc]e|spdx|版权|许可", re.I)

# Full-width letters, digits and signs to half-width ones; Chinese punctuation keeps its width.
_NARROW = {point: point - 0xFEE0 for point in range(0xFF01, 0xFF5F) if chr(point) not in "！（），：；？～"}
_NARROW[0x3000] = 0x20
# Controls but tab and newline, zero-width signs, byte order marks, the replacement character, private use.
_STRIPPED = dict.fromkeys([*range(9), *range(14, 32), *range(127, 160), 0xAD, 0x200B, 0x2060, 0xFEFF, 0xFFFD])
_STRIPPED |= dict.fromkeys([*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0xE000, 0xF900)])
_BREAKS = dict.fromkeys([11, 12, 13, 0x85, 0x2028, 0x2029], 10)
_TABLE = {**_STRIPPED, **_NARROW, **_BREAKS, 0xA0: 0x20, 0x202F: 0x20}
# UTF-8 that was read as Latin-1 or Windows-1252.
_MOJIBAKE = re.compile("[ÃÂâäåæçèé][\u0080-\u00bf\u2018-\u203a€™œž]")

_MAX_PASSES = 6
_EXAMPLE = 200  # characters


class Format(CleaningFilter):
    """Removes front matter, licence headers, comments, pictures and link targets; normalises characters and spaces.

    It is idempotent: markup that only appears when other markup is removed is removed too. A text that still changes
    after six passes was built to do so, and is dropped. It records an outcome `changed` per kind of what it removed
    around a text (`unwrapped`).

    Args:
        residue: see `CleanCorpus.residue`.
        exclusion_writer: see `CleaningFilter`.
    """

    name = "Format"

    def __init__(
        self, exclusion_writer: DiskWriter | None = None, residue: Sequence[tuple[tuple[str, ...], str]] = ()
    ) -> None:
        super().__init__(exclusion_writer)
        self.residue: dict[str, list[re.Pattern[str]]] = {}
        for sources, pattern in residue:
            for source in sources:
                self.residue.setdefault(source, []).append(re.compile(pattern, re.M))

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        residue = self.residue.get(document.metadata["source"], [])
        removed: dict[str, list[str]] = {}
        for _ in range(_MAX_PASSES):
            before = document.text
            document.text = tidy(unwrapped(characters(before), removed), residue)
            if document.text == before:
                break
        else:
            return "nested markup"
        if not document.text:
            return "empty"
        for kind, parts in removed.items():
            masked, _ = without_personal_data(parts[0].strip())
            size = sum(len(part.encode()) for part in parts)
            example = masked[:_EXAMPLE]  # cut last: the half of an address would not be known as one
            record(self, document.metadata["source"], "changed", kind, bytes=size, parts=len(parts), example=example)
        return None


def characters(text: str) -> str:
    """Returns Unicode NFC without controls and zero-width signs; narrows full-width letters and repairs mojibake."""
    if _MOJIBAKE.search(text):
        import ftfy

        text = ftfy.fix_encoding(text)
    # Normalised last: a zero-width sign may stand between a letter and its accent.
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_TABLE))


def _repaired_entity(match: re.Match[str]) -> str:
    # html.unescape reads 128 to 159 as Windows-1252, as browsers do.
    return html.unescape(f"&#{match[1]};") if match[1] else '"'


def unwrapped(text: str, removed: dict[str, list[str]]) -> str:
    """Removes what stands around a text: front matter, header fields, Project Gutenberg's and other licences.

    A title that only the front matter or the fields have becomes a heading.

    Args:
        text: of `characters`.
        removed: what was removed is added to it, by kind.
    """

    for pattern in _GUTENBERG:
        if found := [match[0] for match in pattern.finditer(text)]:
            removed.setdefault("licence of Project Gutenberg", []).extend(found)
            text = pattern.sub("\n", text)
    if front := _FRONT_MATTER.match(text):
        removed.setdefault("front matter", []).append(front[0])
        text = _titled(front[0], text[front.end() :])
    if fields := _header_fields(text):
        removed.setdefault("header fields", []).append(fields[1])
        text = _titled(fields[1], text[fields.end() :])
    licence = _LICENCE.match(text)
    if licence and _LICENCE_WORDS.search(licence[0]):
        removed.setdefault("licence", []).append(licence[0])
        text = text[licence.end() :]
    return text


def tidy(text: str, residue: Sequence[re.Pattern[str]] = ()) -> str:
    """Strips a text of markup; outside of code also of white space at ends of lines and of repeated blank lines."""
    parts = list(fenced(text))
    referring = (part for part, is_code in parts if not is_code and "]:" in part)
    labels = {label.lower() for part in referring for label in _REFERENCES.findall(part) if label}
    if "<" in text and _MARKDOWN.search(text):
        parts = [(part if is_code else _TAG_LINES.sub("", part), is_code) for part, is_code in parts]
    return "".join(part if is_code else _tidy_prose(part, labels, residue) for part, is_code in parts).strip()


def _titled(fields: str, text: str) -> str:
    """Returns the text under the title that its fields name, if it has no other heading."""
    match = _TITLE.search(fields)
    title = match[1].strip().strip(_QUOTES) if match else ""
    if not title or any(_HEADING.search(part) for part, is_code in fenced(text) if not is_code):
        return text
    return f"# {title}\n\n{text.lstrip()}"


def _header_fields(text: str) -> re.Match[str] | None:
    """Returns the header fields at the top of a text, unless names repeat or more fields follow, as in lists."""
    fields = _FIELDS.match(text)
    if fields is None or _FIELDS.match(text, fields.end()):
        return None
    names = [match[1].lower() for match in _NAMES.finditer(fields[1])]
    known = sum(name in _HEADER_NAMES for name in names)
    return fields if known >= _MIN_HEADER_NAMES and len(set(names)) == len(names) else None


def _tidy_prose(text: str, labels: set[str], residue: Sequence[re.Pattern[str]]) -> str:
    if ("quot;" in text or " #39;" in text) and _BROKEN_ENTITIES.search(text):
        # Such texts also have intact entities, and tags written with them.
        text = re.sub(r"</?[A-Za-z][^<>\n]*+>", "", html.unescape(_BROKEN_ENTITY.sub(_repaired_entity, text)))
    # Only up to the last end of a comment: a search for an end that is missing takes quadratic time.
    head, end, tail = text.rpartition("-->")
    text = _COMMENT.sub("", head + end) + tail
    if "]:" in text:
        text = _REFERENCES.sub("", text)
    if labels:
        text = _PICTURE.sub(lambda match: "" if _label(match) in labels else match[0], text)
        text = _REFERRING.sub(lambda match: match[1] if _label(match) in labels else match[0], text)
    for pattern in residue:
        text = pattern.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    # The lookbehind comes after the blank, so that the search skips to blanks.
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t](?<![ \t].)[ \t]*+(?=\n|\Z)", "", text))


def _label(match: re.Match[str]) -> str | None:
    """Returns the label that a reference names; a number alone in brackets is a note or an index, and names none."""
    if match[2] is None and match[1].isdecimal():
        return None
    return " ".join((match[2] or match[1]).lower().split())


def fenced(text: str) -> Iterator[tuple[str, bool]]:
    """Yields the parts of a text outside (False) and inside (True) of code fences. A fence without an end is text.

    In AsciiDoc, `----` and `....` are fences too.
    """
    done, opening = 0, None
    fences = _LISTING if "== " in text and _ASCIIDOC.search(text) else _FENCE
    for fence in fences.finditer(text):
        if opening is None:
            opening = fence
        elif (
            fence[1].startswith(opening[1]) and not fence[2].strip() and (fence[1] == opening[1] or fence[1][0] in "`~")
        ):
            yield text[done : opening.start()], False
            yield text[opening.start() : fence.end()], True
            done, opening = fence.end(), None
    yield text[done:], False


def prose(text: str) -> str:
    """Returns a text without its code, for measurements; a text that is nothing but code as it is.

    Code is what stands in fences and, in Chinese text, indented lines of ASCII.
    """
    outside = "".join(part for part, is_code in fenced(text) if not is_code)
    if "\n    " in outside or "\n\t" in outside:
        without = _INDENTED.sub("", outside)
        if len(_HAN.findall(without)) >= _MIN_HAN:
            outside = without
    return outside if outside.strip() else text
