"""Pseudo-random numbers that depend on nothing but what they are for."""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=1024)  # every row of an epoch asks for the numbers of the epoch
def hash64(*parts: int | str) -> int:
    """A uniform number below 2^64 that is a pure function of its parts, equal on every machine and version."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "big")
