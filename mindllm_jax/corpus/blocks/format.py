"""Format: what stands around a text goes, what is broken in its characters is mended, paragraphs stay."""

from __future__ import annotations

import re
import unicodedata

from datatrove.data import Document

from mindllm_jax.corpus.blocks.block import Block

# YAML or TOML between its marks at the very top.
_FRONT_MATTER = re.compile(r"\A\s*(---|\+\+\+)[ \t]*\n.*?\n\1[ \t]*\n", re.S)
# Lines such as "Title: …" above the first blank line, as in mail, PEPs and man pages of the web; at least three.
_FIELDS = re.compile(r"\A\s*(?:[A-Z][\w-]{1,24}:[ \t][^\n]*\n(?:[ \t]+[^\n]*\n)*){3,}(?=\s*\n)")
# `[#]: key: "value"` of translation projects, `[1]: https://…` of Markdown.
_REFERENCES = re.compile(r"^[ \t]*\[[^\]\n]{1,40}\]:[ \t]*\S[^\n]*\n?", re.M)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_IMAGE = re.compile(r"!\[[^\]\n]*\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)")
_LINK = re.compile(
    r"(?<!!)\[([^\[\]\n]+)\]\((?:https?:|mailto:|ftp:|/|\.|#)[^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?: \"[^\"\n]*\")?\)"
)
_FENCE = re.compile(r"^([ \t]*(?:```|~~~)[^\n]*\n.*?^[ \t]*(?:```|~~~)[ \t]*$)", re.M | re.S)
# Project Gutenberg's licence stands before and after its books.
_GUTENBERG = (
    re.compile(r"\A.{0,20000}?^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*\n", re.S | re.M),
    re.compile(
        r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg).*\Z", re.S | re.M
    ),
)
# A comment at the top that names a licence.
_LICENCE = re.compile(r"\A\s*(?:/\*.*?\*/|(?:(?://|#|\.\.|;;)[^\n]*\n)+)", re.S)
_LICENCE_WORDS = re.compile(r"copyright|licen[sc]e|spdx|版权|许可", re.I)

# Full-width letters, digits and signs that only a typesetter's habit widens; Chinese punctuation stays.
_NARROW = {point: point - 0xFEE0 for point in range(0xFF01, 0xFF5F) if chr(point) not in "！（），：；？～"}
_NARROW[0x3000] = 0x20
# Controls but tab and newline, zero-width signs, byte order marks, the replacement character, private use.
_GONE = dict.fromkeys([*range(9), 11, *range(14, 32), *range(127, 160), 0xAD, 0x200B, 0x2060, 0xFEFF, 0xFFFD])
_GONE |= dict.fromkeys([*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0xE000, 0xF900)])
_TABLE = {**_GONE, **_NARROW, 12: 10, 13: 10, 0x2028: 10, 0x2029: 10, 0xA0: 0x20, 0x202F: 0x20}
# What UTF-8 looks like when it was read as Latin-1 or Windows-1252.
_MOJIBAKE = re.compile("[ÃÂâäåæçèé][\u0080-\u00bf\u2018-\u203a€™œž]")


class Format(Block):
    """Front matter, licence headers, comments, pictures and link targets go; characters and spaces are put in order."""

    name = "Format"

    def judge(self, document: Document) -> str | None:
        """See `Block`."""
        document.text = tidy(characters(document.text))
        return None if document.text else "empty"


def characters(text: str) -> str:
    """Unicode NFC without controls and zero-width signs, full-width letters and digits narrowed, mojibake mended."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    if _MOJIBAKE.search(text):
        import ftfy

        text = ftfy.fix_encoding(text)
    return text.translate(_TABLE)


def tidy(text: str) -> str:
    """The text without what surrounds it; lines without blanks at their ends, at most one blank line in a row."""
    text = _GUTENBERG[1].sub("", _GUTENBERG[0].sub("", text))
    text = _FIELDS.sub("", _FRONT_MATTER.sub("", text))
    licence = _LICENCE.match(text)
    if licence and _LICENCE_WORDS.search(licence[0]):
        text = text[licence.end() :]
    parts = _FENCE.split(text)
    # Code between fences stays as it is: its brackets mean something else.
    parts[::2] = (_LINK.sub(r"\1", _IMAGE.sub("", _REFERENCES.sub("", _COMMENT.sub("", part)))) for part in parts[::2])
    text = re.sub(r"[ \t]+(?=\n|\Z)", "", "".join(parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip()
