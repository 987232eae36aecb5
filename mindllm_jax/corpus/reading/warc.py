"""Reads WARC files, including WET files, as records."""

import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from mindllm_jax.corpus.reading.encodings import declared_charset, decode
from mindllm_jax.corpus.reading.http_body import decode_body, split_response
from mindllm_jax.corpus.reading.records import Bad, BadFile, Record, too_long, writable
from mindllm_jax.text.compression import compression
from mindllm_jax.text.json_lines import BadLine

_MARKUPS = {"text/html": "html", "application/xhtml+xml": "html", "text/plain": "text"}
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<!--.{,2000}?-->\s*+)*+<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
# First bytes of a record: compressed files have a member per record.
_BEGINNINGS = {None: b"WARC/1.", "gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}


def read_warc(file: BinaryIO, *, longest: int) -> Iterator[Record | Bad]:
    """Reads the pages of a WARC file (HTML and plain text with status 200) and the texts of a WET file.

    After a damaged record it continues at the next one. Memory: a few times `longest` bytes.

    Raises:
        BadFile: it has a compression that WARC files do not use.
    """
    try:
        from fastwarc import ArchiveIterator
    except ImportError as error:
        raise ImportError("reading WARC files needs fastwarc: pip install 'mindllm-jax[data]'") from error
    packed = compression(file.read(16))
    if packed not in _BEGINNINGS:
        raise BadFile(
            "nested", f"a WARC file in {packed} data, where its records cannot be found; compress it with gzip"
        )
    beginning = _BEGINNINGS[packed]
    # Positions in the file and lengths of records have the same unit only in a plain file.
    end = file.seek(0, 2) if packed is None else math.inf
    file.seek(0)
    position = 0
    damage: tuple[int, Exception] | None = None  # its first byte, and the error
    while True:
        try:
            for record in ArchiveIterator(file, parse_http=False):
                position = int(record.stream_pos)
                if position + record.content_length > end:
                    raise ValueError("its length reaches beyond the end of the file")
                page = _page(record, f"record at byte {position}", longest)
                if damage is not None:
                    yield _damaged(*damage, position)
                    damage = None
                if page is not None:
                    yield page
            break
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk or the network
            damage = damage or (position, error)
            following = _find(file, beginning, position + 1)
            if following is None:
                break
            position = file.seek(following)
    if damage is not None:
        yield _damaged(*damage, file.seek(0, 2))


def _damaged(start: int, error: Exception, end: int) -> Bad:
    return Bad("damaged", f"bytes {start} to {end}", f"damaged or cut ({error}); fetch the file again", end - start)


def _page(record: Any, where: str, longest: int) -> Record | Bad | None:
    """Returns the text of a record, or None if it has none. Raises OSError and ValueError if it is damaged."""
    from fastwarc import WarcRecordType

    converted = record.record_type == WarcRecordType.conversion
    if not converted and record.record_type not in (WarcRecordType.response, WarcRecordType.resource):
        return None
    length, headers = record.content_length, record.headers
    if not headers.get("Content-Length", "").strip().isdigit():
        raise ValueError("no length")
    if length > longest:
        return too_long(where, length, longest, page=True)
    record.freeze()
    if record.content_length != length:
        raise ValueError(f"{length:,} bytes announced, {record.content_length:,} found")
    content_type, transfer, coding = headers.get("Content-Type", ""), "", ""
    body = record.reader.read()
    if record.record_type == WarcRecordType.response:
        if not record.is_http:
            return None
        response = split_response(body)
        if response is None:
            return Bad("wrong HTTP", where, "HTTP headers without a status", length, page=True)
        if response.status != 200:
            return None
        body, content_type = response.body, response.headers.get("content-type", "")
        transfer = response.headers.get("transfer-encoding", "")
        coding = response.headers.get("content-encoding", "")
    charset = re.search(r";\s*charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.I)
    markup = _MARKUPS.get(content_type.partition(";")[0].strip().lower())
    if markup is None and content_type:
        return None
    content = decode_body(body, transfer, coding, longest)
    # Without a type, a page is what a browser takes for one.
    markup = markup or ("html" if _PAGE.match(content) else None)
    if markup is None:
        return None
    if len(content) > longest:
        return too_long(where, len(content), longest, page=True)
    if b"\r\n\r\nWARC/1." in content:
        raise ValueError("its length reaches into the next record")
    try:
        text = decode(content, charset[1] if charset else declared_charset(content))
    except BadLine as bad:
        return Bad(bad.kind, where, str(bad), length, page=True)
    if not text.strip():
        return None
    metadata = {"format": markup}
    if url := headers.get("WARC-Target-URI"):
        metadata["url"] = writable(url)
    columns = {"date": writable(date)} if (date := headers.get("WARC-Date")) else {}
    id = headers.get("WARC-Record-ID", "").strip("<>")
    return Record(text, id or None, where.rpartition(" ")[2], where, length, metadata, columns)


def _find(file: BinaryIO, beginning: bytes, position: int) -> int | None:
    """Returns the position of the next record from `position` on."""
    file.seek(position)
    tail = b""
    while chunk := file.read(1 << 20):
        if (at := (tail + chunk).find(beginning)) >= 0:
            return position - len(tail) + at
        position += len(chunk)
        tail = chunk[1 - len(beginning) :]
    return None
