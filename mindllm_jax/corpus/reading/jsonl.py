"""Reads JSON lines as records."""

import io
from collections.abc import Iterator

from mindllm_jax.corpus.reading.encodings import detect
from mindllm_jax.corpus.reading.records import Bad, Record, from_row, too_long
from mindllm_jax.text.json_lines import BadLine, numbered, parse


def read_rows(stream: io.BufferedReader, *, text_field: str, id_field: str, longest: int) -> Iterator[Record | Bad]:
    """Reads the objects of a JSON-lines stream in UTF-8, GB18030 or Big5.

    The encoding is detected from the first lines that are not ASCII. If it is unknown, lines of ASCII are read and the
    others are bad. Memory: a line of `longest` bytes and its parsed value.
    """
    encoding = None
    for number, line, size in numbered(stream, longest):
        where = f"line {number}"
        if size > longest:
            yield too_long(where, size, longest)
            continue
        if encoding is None and not line.isascii():
            encoding = detect(line + stream.peek())
        try:
            if b"\0" in line:
                raise BadLine("NUL bytes", "NUL bytes; the line is damaged, or in UTF-16 without a byte-order mark")
            row = parse(line, encoding or "utf-8")
            yield from_row(row, text_field=text_field, id_field=id_field, number=number, where=where, size=size)
        except BadLine as bad:
            yield Bad(bad.kind, where, str(bad), size)
