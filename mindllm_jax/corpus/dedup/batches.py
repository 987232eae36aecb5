"""Batches of texts as one array of code points and one of tokens: an array operation serves many short documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from datatrove.data import Document

from mindllm_jax.text.codepoints import codepoints
from mindllm_jax.text.ngrams import Tokens, tokens

_CHARS = 1 << 16


class Batch(NamedTuple):
    """The n texts of a batch, one after the other, each with a line break after it.

    Attributes:
        points: uint32, the code points.
        offsets: int64 [n + 1], where each text begins in `points`, and the end of the last.
        tokens: of all texts; `starts` are places in `points`.
        bounds: int64 [n + 1], which tokens are of which text: text i has [bounds[i], bounds[i + 1]).
        owners: int64, the text of each token.
    """

    points: np.ndarray
    offsets: np.ndarray
    tokens: Tokens
    bounds: np.ndarray
    owners: np.ndarray


def batch_of(texts: Sequence[str]) -> Batch:
    """Returns texts as a batch."""
    joined = "\n".join([*texts, ""])
    hashed = tokens(joined)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in texts], out=offsets[1:])
    bounds = np.searchsorted(hashed.starts, offsets)
    return Batch(codepoints(joined), offsets, hashed, bounds, np.repeat(np.arange(len(texts)), np.diff(bounds)))


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields documents in their order, so many at a time that their texts have about 65,536 characters, or one."""
    batch, size = [], 0
    for document in documents:
        if batch and size + len(document.text) > _CHARS:
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document.text)
    if batch:
        yield batch


def places_in_text(owners: np.ndarray, count: int) -> np.ndarray:
    """Returns the place of each value among those of its text, int64, for the sorted texts of the values."""
    return np.arange(len(owners)) - np.searchsorted(owners, np.arange(count))[owners]
