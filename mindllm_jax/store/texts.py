"""The texts of a token store: tokens decode to exactly the bytes that were tokenized."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mindllm_jax.store.store import TokenStore

_BLOCK = 1 << 20  # tokens read at once


def split_texts(store: TokenStore, source: str, split: str, share: float = 1.0) -> Iterator[bytes]:
    """Yields the UTF-8 of a split's documents, in the store's random order; about the first `share` of them."""
    tokens = store.split(source, split).tokens
    wanted = round(share * tokens)
    rest = np.empty(0, np.int32)
    for start in range(0, wanted, _BLOCK):
        block = store.windows([(source, split, start)], min(_BLOCK, wanted - start))[0]
        rest = np.concatenate([rest, block])
        begins = np.flatnonzero(rest == store.manifest.doc_id)
        for begin, end in pairwise(begins):
            yield store.tokenizer.decode_bytes(rest[begin + 1 : end])
        rest = rest[begins[-1] :]
    if wanted == tokens and tokens:
        yield store.tokenizer.decode_bytes(rest[1:])
