"""Splits HTTP responses and decodes their bodies, which often do not have the codings that their headers name."""

import re
import zlib
from typing import Any, NamedTuple

from mindllm_jax.text.compression import compression

# The size of a chunk, perhaps an extension.
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
# Markup or words: the beginning of a body that is not compressed, whatever its header says.
_TEXT = re.compile(rb"(?:\xef\xbb\xbf)?(?:[\s\x20-\x7e]{16}|\s*<[!?A-Za-z])")
_LINE_END = re.compile(rb"\r?\n")
_PIECE = 1 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_NEXT_HEADER = re.compile(rb"\r?\n(?![ \t])")


class Response(NamedTuple):
    """A response: its status, its headers by names in lower case, and its body as it is stored."""

    status: int
    headers: dict[str, str]
    body: bytes


def split_response(response: bytes) -> Response | None:
    """Returns the parts of a response, or None if it has no status. Lines may end without a carriage return."""
    end = _HEAD_END.search(response)
    head, body = (response[: end.start()], response[end.end() :]) if end else (response, b"")
    first, *lines = _NEXT_HEADER.split(head)
    status = re.match(rb"\s*HTTP/[\d.]+[ \t]+(\d{3})\b", first)
    if status is None:
        return None
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return Response(int(status[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}, body)


def decode_body(body: bytes, transfer: str, content: str, longest: int) -> bytes:
    """Returns the content of a body. Of compressed data, hardly more than `longest` + 1 bytes are decompressed.

    Crawlers store bodies decoded and keep the header, and servers name character encodings as codings: a body that does
    not begin as its coding does is taken as it is. What precedes damage or a cut is kept, as in a browser.

    Args:
        body: the body as it is stored.
        transfer: the header Transfer-Encoding, "" if missing.
        content: the header Content-Encoding, "" if missing.
        longest: bytes that are read.
    """
    if "chunked" in transfer.lower():
        body = _join_chunks(body)
    for coding in reversed(content.lower().split(",")):
        body = _decompress(body, coding.strip(), longest)
    # Compressed twice, or without a header.
    return _decompress(body, compression(body) or "", longest)


def _join_chunks(body: bytes) -> bytes:
    """Returns the content of the chunks; the body itself if it does not consist of chunks."""
    pieces: list[bytes] = []
    position = 0
    while size := _CHUNK.match(body, position):
        length = int(size[1], 16)
        pieces.append(body[size.end() : size.end() + length])
        position = size.end() + length
        if length == 0 or position >= len(body):
            return b"".join(pieces)
        line_end = _LINE_END.match(body, position)
        if line_end is None:
            break
        position = line_end.end()
    # The first chunks of a damaged body, unless the first line was a number of the text.
    return b"".join(pieces) if len(pieces) > 1 else body


def _decompress(body: bytes, coding: str, longest: int) -> bytes:
    """Undoes one content coding; an unknown one or one that the body does not have changes nothing."""
    if coding in ("gzip", "x-gzip") and compression(body) == "gzip":
        return _inflate(zlib.decompressobj(wbits=31), body, longest)
    if coding == "zstd" and compression(body) == "zstd":
        return _zstandard(body, longest)
    if coding == "deflate" and not _TEXT.match(body):
        # The standard wants zlib's header, many servers send none.
        contents = [_inflate(zlib.decompressobj(wbits), body, longest) for wbits in (15, -15)]
    elif coding == "br" and not _TEXT.match(body):
        contents = [_brotli(body, longest)]
    else:
        return body
    # These have no first bytes to know them by: of other data they make an error, and little before it.
    return max(contents, key=len) if len(max(contents, key=len)) > len(body) // 2 else body


def _inflate(decompressor: Any, body: bytes, longest: int) -> bytes:
    """Returns the content before the first damage."""
    content = bytearray()
    # In small pieces: zlib returns nothing of a piece with an error in it.
    for start in range(0, len(body), _PIECE):
        try:
            content += decompressor.decompress(body[start : start + _PIECE], longest + 1 - len(content))
        except zlib.error:
            break
        if decompressor.eof or len(content) > longest:
            break
    return bytes(content)


def _brotli(body: bytes, longest: int) -> bytes:
    import brotli

    decompressor, content = brotli.Decompressor(), bytearray()
    for start in range(0, len(body), _PIECE):
        try:
            content += decompressor.process(
                body[start : start + _PIECE], output_buffer_limit=longest + 1 - len(content)
            )
        except brotli.error:
            break
        if len(content) > longest:
            break
    return bytes(content)


def _zstandard(body: bytes, longest: int) -> bytes:
    import zstandard

    content = bytearray()
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    try:
        while len(content) <= longest and (piece := reader.read(1 << 16)):
            content += piece
    except zstandard.ZstdError:
        pass  # what precedes the damage is kept
    return bytes(content)
