"""Detects the format of a file by its first bytes, and by its name only if these are ambiguous."""

import codecs
from typing import Literal

from mindllm_jax.corpus.reading.records import BadFile
from mindllm_jax.text.compression import compression

Format = Literal["html", "json", "parquet", "plain", "warc", "wiki"]

SUFFIXES: dict[str, Format] = {
    "jsonl": "json",
    "ndjson": "json",
    "json": "json",
    "parquet": "parquet",
    "txt": "plain",
    "text": "plain",
    "md": "plain",
    "markdown": "plain",
    "html": "html",
    "htm": "html",
    "xhtml": "html",
    "warc": "warc",
    "wet": "warc",
    "xml": "wiki",
}
COMPRESSED_SUFFIXES = ("gz", "zst", "zstd", "xz", "bz2")
_ARCHIVES = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a": "rar"}


def suffix(name: str) -> str:
    """Returns the suffix of a file's name without that of a compression: "jsonl" of "a.b.jsonl.gz"."""
    parts = name.rpartition("/")[2].lower().split(".")[1:]
    while parts and parts[-1] in COMPRESSED_SUFFIXES:
        parts.pop()
    return parts[-1] if parts else ""


def format_of(name: str, packed: bytes, sample: bytes) -> Format:
    """Returns the format of a file.

    Args:
        name: its name, with suffixes.
        packed: its first bytes.
        sample: the first bytes of its content, decompressed.

    Raises:
        BadFile: it is empty, an archive, compressed twice, not what its name says, or unknown.
    """
    if not sample:
        raise BadFile("empty", "it is empty; fetch it again, or leave it out before the first run")
    outer = compression(packed)
    if outer is not None and (inner := compression(sample)):
        raise BadFile("nested", f"{inner} data inside {outer} data; decompress it once")
    archive = next((kind for magic, kind in _ARCHIVES.items() if sample.startswith(magic)), None)
    if sample[257:262] == b"ustar":
        archive = "tar"
    if archive is not None:
        raise BadFile("archive", f"a {archive} archive; unpack it and give the folder of its files")
    if sample.startswith(b"PAR1"):
        if outer is not None:
            raise BadFile("nested", f"parquet inside {outer} data; decompress it (parquet is compressed by itself)")
        return "parquet"
    if sample.startswith(b"WARC/"):
        return "warc"
    text = sample.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith((b"<mediawiki", b"<?xml")) and b"<mediawiki" in text[:4096]:
        return "wiki"
    named = SUFFIXES.get(suffix(name))
    if named in ("html", "json", "plain", "warc"):
        return named
    if named is not None:
        raise BadFile("wrong magic", f"it does not begin as a .{suffix(name)} file does; fetch it again, or rename it")
    if text.startswith(b"{"):
        return "json"
    raise BadFile(
        "unknown format",
        "neither its first bytes nor its name identify it; rename it to end with one of " + ", ".join(SUFFIXES),
    )
