"""Reads a file of plain text as one record."""

import io
from collections.abc import Iterator

from mindllm_jax.corpus.reading.encodings import decode
from mindllm_jax.corpus.reading.records import Bad, Record, too_long
from mindllm_jax.text.json_lines import BadLine


def read_plain(stream: io.BufferedReader, *, longest: int) -> Iterator[Record | Bad]:
    """Reads a stream in UTF-8, GB18030 or Big5 as one text. Memory: a few times `longest` bytes."""
    content = stream.read(longest + 1)
    if len(content) > longest:
        size = len(content)
        while piece := stream.read(1 << 16):
            size += len(piece)
        yield too_long("", size, longest)
        return
    try:
        text = decode(content)
    except BadLine as bad:
        yield Bad(bad.kind, "", str(bad), len(content))
        return
    if text.strip():
        yield Record(text, None, "", "", len(content))
