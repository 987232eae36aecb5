"""Reads a file of plain text or an HTML page as one record."""

import io
from collections.abc import Iterator

from mindllm_jax.corpus.reading.encodings import declared_charset, decode
from mindllm_jax.corpus.reading.records import Bad, Record, too_long
from mindllm_jax.text.json_lines import BadLine


def read_plain(stream: io.BufferedReader, *, markup: str = "", longest: int) -> Iterator[Record | Bad]:
    """Reads a stream as one text, in the encoding that `encodings.decode` detects.

    Args:
        stream: the content of the file.
        markup: one of MARKUPS, "" if a later step has to detect it.
        longest: bytes that are read. Memory: a few times as many.
    """
    content = stream.read(longest + 1)
    if len(content) > longest:
        size = len(content)
        while piece := stream.read(1 << 16):
            size += len(piece)
        yield too_long("", size, longest)
        return
    try:
        text = decode(content, declared_charset(content) if markup == "html" else None)
    except BadLine as bad:
        yield Bad(bad.kind, "", str(bad), len(content))
        return
    if text.strip():
        yield Record(text, None, "", "", len(content), {"format": markup} if markup else {})
