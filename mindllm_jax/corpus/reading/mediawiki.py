"""Reads MediaWiki XML dumps as records in wiki markup."""

import codecs
import io
import re
from collections.abc import Iterator
from urllib.parse import quote
from xml.etree import ElementTree

from mindllm_jax.corpus.reading.records import Bad, BadFile, Record, Scalar, too_long
from mindllm_jax.text.names import language_code

_OPEN, _CLOSE = b"<page>", b"</page>"
# XML may not have these, but the dumps of some wikis do. NUL bytes are damage.
_CONTROLS = bytes(set(range(1, 32)) - set(b"\t\n\r"))


def read_wiki(stream: io.BufferedReader, *, longest: int) -> Iterator[Record | Bad]:
    """Reads the articles of a dump: pages in wiki markup of the main namespace, without redirects.

    Of a dump with the history of its pages, the newest revisions are read.
    Each page is parsed separately, so a damaged one does not affect others, and no entity can expand. Memory: a few
    times `longest` bytes.

    Raises:
        BadFile: the dump ends before its end mark.
    """
    header: dict[str, str] | None = None
    number = 0
    for before, page, size in _pages(stream, longest):
        if header is None:
            header = _header(before)
        if page is None:
            continue
        number += 1
        where = f"page {number}"
        if _OPEN in before:
            yield Bad("wrong XML", f"before {where}", "a page without its end; fetch the dump again", len(before))
        if size > longest:
            yield too_long(where, size, longest)
            continue
        try:
            element = ElementTree.fromstring(page.translate(None, _CONTROLS).decode(header["encoding"], "replace"))
        except ElementTree.ParseError as error:
            yield Bad("wrong XML", where, f"wrong XML ({error}, counted from its <page>); fetch the dump again", size)
            continue
        title, revision = element.findtext("title", ""), element.find("revision[last()]")
        if revision is None or element.findtext("ns", "0") != "0" or element.find("redirect") is not None:
            continue
        text = revision.findtext("text", "")
        if not text.strip() or revision.findtext("model", "wikitext") != "wikitext":
            continue
        metadata, columns = {"format": "wiki", "title": title}, dict[str, Scalar]()
        if code := language_code(header.get("lang")):
            metadata["lang"] = code
        if (number_of_revision := revision.findtext("id", "")).isdecimal():
            columns["revision"] = int(number_of_revision)
        if "base" in header:
            metadata["url"] = f"{header['base']}/{quote(title.replace(' ', '_'))}"
        yield Record(text, None, element.findtext("id") or str(number), where, size, metadata, columns)


def _pages(stream: io.BufferedReader, longest: int) -> Iterator[tuple[bytes, bytes | None, int]]:
    """Yields the text before a page, the page from <page> to </page>, and its size; at the end None for the page.

    Of a page longer than `longest` only the size is right.
    """
    buffer = bytearray()
    searched = dropped = 0
    while chunk := stream.read1(1 << 17):
        buffer += chunk
        while (end := buffer.find(_CLOSE, searched)) >= 0:
            end += len(_CLOSE)
            # The last <page> before the end: one without its end belongs to the text before.
            start = 0 if dropped else buffer.rfind(_OPEN, 0, end)
            if start >= 0:
                yield bytes(buffer[:start]), bytes(buffer[start:end]), end - start + dropped
            del buffer[:end]
            searched = dropped = 0
        searched = max(0, len(buffer) - len(_CLOSE))
        if len(buffer) > longest + (1 << 17):
            dropped += searched
            del buffer[:searched]
            searched = 0
    yield bytes(buffer), None, 0
    if b"</mediawiki>" not in buffer:
        raise BadFile("cut", "it ends without </mediawiki>; fetch it again")


def _header(head: bytes) -> dict[str, str]:
    """Returns the encoding of the dump, and the language and the address of the wiki if the dump has them."""
    matches = {
        "encoding": re.search(rb"^\s*<\?xml[^>]*\sencoding=[\"']([\w.-]+)", head),
        "lang": re.search(rb"<mediawiki[^>]*\sxml:lang=[\"']([\w-]+)", head),
        "base": re.search(rb"<base>\s*(https?://[^<\s]+)/[^<]*</base>", head),
    }
    found = {name: match[1].decode("utf-8", "replace") for name, match in matches.items() if match}
    try:
        codecs.lookup(found.get("encoding", ""))
    except LookupError:
        found["encoding"] = "utf-8"
    return found
