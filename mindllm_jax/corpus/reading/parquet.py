"""Reads parquet files as records."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from mindllm_jax.corpus.reading.records import Bad, BadFile, Record, from_row, too_long
from mindllm_jax.text.json_lines import BadLine

_BATCH_ROWS = 256


def read_parquet(file: BinaryIO, *, text_field: str, id_field: str, longest: int) -> Iterator[Record | Bad]:
    """Reads the rows of a parquet file, with its columns of strings and numbers; text and id may be bytes of UTF-8.

    Rows before damage in a row group are kept, and so are the groups after it. A truncated file has no metadata and
    cannot be read. Memory: the decompressed pages of one row group.

    Raises:
        BadFile: the metadata is missing or damaged, or there is no column of this name.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("reading parquet needs pyarrow: pip install 'mindllm-jax[data]'") from error
    # pyarrow raises any of these for damage; an OSError with a number is of the disk or the network.
    damage = (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError)
    try:
        table = parquet.ParquetFile(file, page_checksum_verification=True)
        columns = [
            column.name
            for column in table.schema_arrow
            if _scalar(column.type) or (column.name in (text_field, id_field) and _binary(column.type))
        ]
        counts = [
            (group.num_rows, group.total_byte_size)
            for group in map(table.metadata.row_group, range(table.num_row_groups))
        ]
    except damage as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadFile("damaged", f"its metadata cannot be read ({_short(error)}); fetch it again") from None
    if text_field in table.schema_arrow.names and text_field not in columns:
        kind = table.schema_arrow.field(text_field).type
        message = f"the column `{text_field}` is of {kind}, not of strings; write it as strings, or set"
        raise BadFile("no text", f"{message} CleanCorpus.text_field to the column of the text")
    if text_field not in columns:
        names = ", ".join(table.schema_arrow.names[:8]) or "none"
        raise BadFile(
            "no text",
            f"no column of strings `{text_field}` (its columns: {names}); set CleanCorpus.text_field to the column of"
            " the text",
        )
    first = 0
    for group, (rows, size) in enumerate(counts):
        done = 0
        try:
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                for values in _values(batch):
                    yield _record(values, first + done, text_field, id_field, longest)
                    done += 1
        except damage as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            lost = max(0, rows - done)
            yield Bad(
                "damaged",
                f"row group {group}",
                f"damaged after {done} of its {rows} rows ({_short(error)}); fetch the file again",
                size * lost // max(1, rows),
            )
        first += rows


def _values(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """Yields the rows of a batch, or the error for a row with strings that are not UTF-8: parquet does not check."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield error


def _record(
    values: dict[str, Any] | UnicodeDecodeError, number: int, text_field: str, id_field: str, longest: int
) -> Record | Bad:
    where = f"row {number}"
    if isinstance(values, UnicodeDecodeError):
        message = f"a string that is not UTF-8 (at position {values.start}); write the file again"
        return Bad("not UTF-8", where, message, len(values.object))
    try:
        values |= {
            name: values[name].decode() for name in (text_field, id_field) if isinstance(values.get(name), bytes)
        }
    except UnicodeDecodeError as error:
        message = f"bytes that are not UTF-8 (at position {error.start}); write the file again"
        return Bad("not UTF-8", where, message, len(error.object))
    text = values[text_field]
    size = len(text.encode()) if isinstance(text, str) else 0
    if size > longest:
        return too_long(where, size, longest)
    try:
        return from_row(values, text_field=text_field, id_field=id_field, number=number, where=where, size=size)
    except BadLine as bad:
        return Bad(bad.kind, where, str(bad), size)


def _scalar(type: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(type):
        type = type.value_type
    strings = types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)
    return strings or types.is_integer(type) or types.is_floating(type) or types.is_boolean(type)


def _binary(type: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(type):
        type = type.value_type
    variable = types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type)
    return variable or types.is_fixed_size_binary(type)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
