"""HTML and wiki markup to text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.roff import is_roff, roff_text
from mindllm_jax.corpus.filters.webpage import page_text

_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*+>\s*+)?(?:<!--(?:(?!-->).)*+-->\s*+)*+(?:<!doctype html|<html|<head|<body)", re.I | re.S
)
_TAG = re.compile(r"</?(?:p|div|span|table|tr|td|li|ul|a|br|h[1-6]|script|style)\b[^<>]*>", re.I)
# An article in wiki markup has links and headings, templates or bold text; text about wiki markup seldom has all.
_WIKI = (re.compile(r"\[\[[^\[\]\n]+\]\]"), re.compile(r"^==[^=\n].*==\s*$|^\{\{|^\{\||'''|^#REDIRECT", re.M | re.I))
# A dictionary of Python or JSON as text: a data set that was dumped carelessly.
_RECORD = re.compile(r"""\s*\{\s*['"][^'"\n]{1,40}['"]\s*:""")
_REQUEST = re.compile(r"\n[.']")  # in every manual page
_SURROGATE = re.compile("[\ud800-\udfff]")


class Markup(CleaningFilter):
    """Extracts the text of HTML pages, wiki articles, manual pages and dumped records; plain text is not changed.

    The kind of a document is `format` in its metadata if the reader knows it, else it is detected. The text
    density of a page's extracted text is stored as `density` in the metadata.
    """

    name = "Markup"

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        kind = document.metadata.get("format") or markup_of(document.text)
        if kind == "html":
            document.text, document.metadata["density"] = page_text(document.text)
        elif kind == "wiki":
            document.text = wiki_text(document.text, str(document.metadata.get("title", "")))
        elif kind == "record":
            document.text = record_text(document.text)
        elif kind == "roff":
            document.text = roff_text(document.text)
        return None if document.text.strip() else "no text in markup"


def markup_of(text: str) -> str:
    """Returns the detected kind of a text: `html`, `wiki`, `record`, `roff` or `text`."""
    head = text[:20_000]
    if _RECORD.match(head):
        return "record"
    # Most texts lack the sign that a pattern begins with, and looking for it takes a tenth of the pattern's time.
    # Markdown about pages has their tags in fences, and its own tags outside of them.
    tagged = "<" in head and "```" not in text
    if _HTML.match(head) or (tagged and len(_TAG.findall(head)) > max(5, len(head) / 200)):
        return "html"
    if "[" in head and len(_WIKI[0].findall(head)) > len(head) / 1000 and _WIKI[1].search(head):
        return "wiki"
    return "roff" if _REQUEST.search(text) and is_roff(text) else "text"


def wiki_text(markup: str, title: str = "") -> str:
    """Returns the title and the prose of an article, "" for a redirect and for an article without prose."""
    from mindllm_jax.corpus.filters.wikitext import parse_article

    if re.match(r"\s*#(redirect|重定向|転送|weiterleitung|redirection|redirección|перенаправление)", markup, re.I):
        return ""
    prose = [text for section in parse_article(markup) for text in (section.heading, *section.paragraphs) if text]
    return "\n\n".join([title, *prose] if title and prose else prose)


def record_text(record: str) -> str:
    """Returns the texts in a record, one paragraph each, without copies; an unreadable record is returned as is."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(record.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            text = "\n\n".join(dict.fromkeys(_texts(value)))
            # An escape may be half a surrogate pair, which UTF-8 cannot encode.
            return _SURROGATE.sub("", text)
        break
    return record


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts of a value and of the lists and records in it, in order, without recursion."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case dict(fields):
                waiting.extend(reversed(fields.values()))
            case list(values) | tuple(values):
                waiting.extend(reversed(values))
