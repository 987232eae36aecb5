"""The same texts as a file of each format and compression."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from xml.sax.saxutils import escape

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

TEXTS = [f"第{n}条 为了保护公民的合法权益，制定本法。 Article {n} says so." for n in range(12)]


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"id": f"i{n}", "text": t, "n": n}).encode() + b"\n" for n, t in enumerate(texts))


def parquet_table(texts: list[str]) -> bytes:
    table = pyarrow.table({"text": texts, "id": [f"i{n}" for n in range(len(texts))], "n": range(len(texts))})
    file = io.BytesIO()
    parquet.write_table(table, file, row_group_size=4)
    return file.getvalue()


def wiki_dump(texts: list[str]) -> bytes:
    pages = [
        f"<page><title>第 {n}</title><ns>{ns}</ns><id>{n}</id>{more}"
        f"<revision><text>{escape(t)}</text></revision></page>"
        for n, t in enumerate(texts)
        for ns, more in [(0, ""), *([(1, ""), (0, '<redirect title="x" />')] if n == 3 else [])]
    ]
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="zh"><siteinfo>'
    base = "<base>https://zh.wikipedia.org/wiki/Wikipedia:首页</base></siteinfo>"
    return "\n".join([head, base, *pages, "</mediawiki>"]).encode()


def warc_record(id: str, body: bytes, content_type: str = "text/html; charset=utf-8", kind: str = "response") -> bytes:
    if kind == "response":
        http = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        body, content_type = http.encode() + body, "application/http; msgtype=response"
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <{id}>\r\nWARC-Target-URI: http://example.org/{id}\r\n"
        f"WARC-Date: 2020-01-01T00:00:00Z\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def warc_records(texts: list[str]) -> list[bytes]:
    return [warc_record(f"i{n}", f"<p>{text}</p>".encode()) for n, text in enumerate(texts)]


def warc(texts: list[str]) -> bytes:
    return b"".join(warc_records(texts))


def warc_gz(texts: list[str]) -> bytes:
    return b"".join(map(gzip.compress, warc_records(texts)))


def warc_zst(texts: list[str]) -> bytes:
    return b"".join(map(zstandard.compress, warc_records(texts)))


def plain(texts: list[str]) -> bytes:
    return "\n".join(texts).encode()


MAKERS: dict[str, Callable[[list[str]], bytes]] = {
    "jsonl": json_lines,
    "parquet": parquet_table,
    "xml": wiki_dump,
    "warc": warc,
    "warc.gz": warc_gz,
    "warc.zst": warc_zst,
    "txt": plain,
}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
}


@pytest.fixture(scope="session")
def texts():
    return TEXTS


@pytest.fixture(scope="session")
def makers():
    """By suffix, what makes a file of texts."""
    return MAKERS


@pytest.fixture(scope="session")
def compressors():
    """By suffix, what compresses a file."""
    return COMPRESSORS


@pytest.fixture(scope="session")
def make_warc_record():
    return warc_record
