"""Tokens as text for people: boundaries, white space, symbols and bytes that are no whole characters stay visible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mindllm_jax.tokenization.tokenizer import Tokenizer

_MARKS = str.maketrans({" ": "·", "\n": "↵\n", "\t": "→\t", "\r": "␍", "\u3000": "□"})
_LONGEST = 4  # bytes of a UTF-8 character


class Shown(NamedTuple):
    """The text of one token, or of several that hold the bytes of one character."""

    text: str  # white space marked: · for a space, ↵ for a line's end
    tokens: int
    kind: str  # "text", "symbol" or "bytes", which are no UTF-8


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[Shown]:
    """Yields the tokens of `ids` in order. Joined and unmarked they are the text that the model reads."""
    start = 0
    while start < len(ids):
        rest = ids[start : start + _LONGEST]
        count = _whole(tokenizer, rest)
        if not tokenizer.token_bytes[rest[0]]:
            yield Shown(tokenizer.piece(rest[0]), 1, "symbol")
        elif count:
            yield Shown(tokenizer.decode(rest[:count]).translate(_MARKS), count, "text")
        else:
            yield Shown(tokenizer.decode_bytes(rest[:1]).hex(" ").upper(), 1, "bytes")
        start += max(count, 1)


def _whole(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    """Returns how many of the first tokens are whole characters together, the fewest; 0 where none are."""
    for count in range(1, len(ids) + 1):
        if not tokenizer.token_bytes[ids[count - 1]]:
            return 0
        try:
            tokenizer.decode_bytes(ids[:count]).decode()
        except UnicodeDecodeError:
            continue
        return count
    return 0
