"""Reads WARC files, including WET files, as records."""

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from mindllm_jax.corpus.reading.encodings import declared_charset, decode
from mindllm_jax.corpus.reading.http_body import decode_body
from mindllm_jax.corpus.reading.records import Bad, BadFile, Record, too_long, writable
from mindllm_jax.corpus.reading.streams import compression
from mindllm_jax.text.json_lines import BadLine

_MARKUPS = {"text/html": "html", "application/xhtml+xml": "html", "text/plain": "text"}
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
    content_type, charset, transfer, coding = headers.get("Content-Type", ""), None, "", ""
    if record.record_type == WarcRecordType.response:
        if not record.is_http:
            return None
        try:
            record.parse_http(auto_decode="none")
        except OSError as error:
            return Bad("wrong HTTP", where, f"wrong HTTP headers ({error})", length, page=True)
        if record.http_headers is None or record.http_headers.status_code is None:
            return Bad("wrong HTTP", where, "HTTP headers without a status", length, page=True)
        if record.http_headers.status_code != 200:
            return None
        content_type, charset = record.http_content_type or "", record.http_charset
        transfer = record.http_headers.get("Transfer-Encoding", "")
        coding = record.http_headers.get("Content-Encoding", "")
    markup = _MARKUPS.get(content_type.partition(";")[0].strip().lower())
    if markup is None:
        return None
    content = decode_body(record.reader.read(), transfer, coding, longest)
    if len(content) > longest:
        return too_long(where, len(content), longest, page=True)
    if b"\r\n\r\nWARC/1." in content:
        raise ValueError("its length reaches into the next record")
    try:
        text = decode(content, charset or declared_charset(content))
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
