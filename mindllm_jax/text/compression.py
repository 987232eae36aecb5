"""Compressions of files, known by the first bytes."""

# The longest is of 10 bytes. A text may begin with "BZh9" alone.
_MAGIC: dict[bytes, str] = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    **dict.fromkeys((b"BZh%d1AY&SY" % level for level in range(1, 10)), "bzip2"),
}


def compression(head: bytes) -> str | None:
    """Returns the name of the compression of a file by its first bytes, ten or more, or None."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
