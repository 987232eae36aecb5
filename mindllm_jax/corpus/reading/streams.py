"""Opens a file, compressed or not, as a stream of bytes."""

import bz2
import codecs
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from mindllm_jax.corpus.reading.records import BadFile
from mindllm_jax.text.compression import compression

# Bytes to detect formats and encodings by.
SAMPLE_BYTES = 1 << 18
_CHUNK = 1 << 16


class _Gzip:
    """zlib with the interface of bz2 and lzma."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data


class _Zstandard:
    """zstandard with the interface of bz2 and lzma, except `max_length`: its input must be small."""

    needs_input = True

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise ImportError("reading zstd files needs zstandard: pip install 'mindllm-jax[data]'") from error
        self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._error = zstandard.ZstdError

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._frame.decompress(data)
        except self._error as error:
            raise zlib.error(str(error)) from None

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data


# Of each compression, and how many bytes to read at a time: a KiB of zstd may have 32 MiB of zeros.
_DECOMPRESSORS: dict[str, tuple[Callable[[], Any], int]] = {
    "gzip": (_Gzip, _CHUNK),
    "zstd": (_Zstandard, 1 << 10),
    "xz": (partial(lzma.LZMADecompressor, memlimit=1 << 29), _CHUNK),
    "bzip2": (bz2.BZ2Decompressor, _CHUNK),
}


def unpacked(file: BinaryIO, head: bytes) -> io.BufferedReader:
    """Returns the decompressed content (gzip, zstd, xz, bzip2) of an open file of which `head` was read.

    `peek()` right after this call returns its first SAMPLE_BYTES. Memory: 32 MiB and the window of the compression.

    Reading from it raises BadFile at truncated or damaged data, after all bytes before it.
    """
    if name := compression(head):
        decompressor, size = _DECOMPRESSORS[name]
        chunks = _decompressed(_chunks(file, head, size), name, decompressor)
    else:
        chunks = _chunks(file, head, _CHUNK)
    return io.BufferedReader(_Stream(chunks), SAMPLE_BYTES)


def utf16_as_utf8(stream: BinaryIO) -> io.BufferedReader:
    """Converts UTF-16 with a byte-order mark to UTF-8. A lone surrogate is kept, so its line is reported as bad."""

    def converted() -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        read = 0
        for chunk in _chunks(stream, b"", _CHUNK):
            read += len(chunk)
            yield decoder.decode(chunk).encode(errors="surrogatepass")
        if decoder.getstate()[0]:
            raise BadFile("cut", f"its UTF-16 ends in the middle of a character (at byte {read}); fetch it again")

    return io.BufferedReader(_Stream(converted()), SAMPLE_BYTES)


def _chunks(file: BinaryIO, head: bytes, size: int) -> Iterator[bytes]:
    yield head
    while chunk := file.read(size):
        yield chunk


def _decompressed(chunks: Iterator[bytes], name: str, new: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the content of the members of a compressed file, one after the other."""
    decompressor, made = None, 0
    try:
        for chunk in chunks:
            while True:
                if decompressor is None:
                    chunk = chunk.lstrip(b"\0")  # tapes and xz pad with zeros
                    if not chunk:
                        break
                    decompressor = new()
                made += len(piece := decompressor.decompress(chunk, _CHUNK))
                yield piece
                if decompressor.eof:
                    chunk, decompressor = decompressor.unused_data, None
                elif decompressor.needs_input:
                    break
                else:
                    chunk = b""
    except (zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk or the network, not of bz2
        raise BadFile("damaged", f"its {name} data is damaged after {made:,} bytes ({error}); fetch it again") from None
    if decompressor is not None:
        raise BadFile("cut", f"its {name} data is cut off after {made:,} bytes; fetch it again")


class _Stream(io.RawIOBase):
    """A stream of chunks. An exception of theirs is raised after all bytes before it were read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target, filled = memoryview(buffer), 0
        while filled < len(target) and self._error is None:
            if not self._rest:
                try:
                    self._rest = memoryview(next(self._chunks))
                except StopIteration:
                    break
                except Exception as error:
                    self._error = error
                    break
            size = min(len(self._rest), len(target) - filled)
            target[filled : filled + size] = self._rest[:size]
            self._rest = self._rest[size:]
            filled += size
        if not filled and self._error is not None:
            raise self._error
        return filled
