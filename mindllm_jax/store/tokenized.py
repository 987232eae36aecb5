"""The documents of one source as token ids on local disk, before they are shuffled."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindllm_jax.hashing import hash64
from mindllm_jax.store.store import token_dtype
from mindllm_jax.text.documents import Document, held_out
from mindllm_jax.tokenization.tokenizer import Tokenizer

# Texts are tokenized this many characters at a time, or one document where that is longer.
_BATCH_CHARACTERS = 1 << 21


class Tokenized(NamedTuple):
    """n documents in their original order, each `<doc>` and its ids; N tokens in total.

    Attributes:
        tokens: uint16 or uint32 [N].
        offsets: int64 [n + 1], where each document begins in `tokens`, and N.
        bytes: int64 [n], UTF-8 bytes of each text.
        shuffle_keys: uint64 [n], random; documents are written in their order.
        held_out: bool [n].
    """

    tokens: np.ndarray
    offsets: np.ndarray
    bytes: np.ndarray
    shuffle_keys: np.ndarray
    held_out: np.ndarray


def tokenize(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    path: Path,
    *,
    fraction: float,
    seed: int,
    progress: Callable[[int, int], None],
) -> Tokenized:
    """Tokenizes documents into the file `path` and maps it into memory.

    Memory: a batch of texts, and 25 bytes per document.

    Args:
        documents: documents of one source, with distinct ids.
        tokenizer: the tokenizer.
        path: the file for the tokens; it must stay while the result is used.
        fraction: fraction of the documents to hold out, by the hash of their ids.
        seed: decides the order of the documents.
        progress: called with the documents and bytes done so far.

    Raises:
        OSError: the file cannot be written, also when only some of the documents met a full disk.
        ValueError: two documents have the same id.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    begin = np.array([tokenizer.doc_id], dtype)
    lengths, sizes, shuffle_keys, held = array("q"), array("q"), array("Q"), bytearray()
    done = 0
    with open(path, "wb") as file:
        for batch in _batches(documents):
            for document, ids in zip(batch, tokenizer.encode_batch([d.text for d in batch]), strict=True):
                # Not `tofile`, which loses the failure of a full disk.
                file.write(np.concatenate([begin, ids.astype(dtype)]).tobytes())
                lengths.append(1 + len(ids))
                sizes.append(int(tokenizer.token_bytes[ids].sum()))
                shuffle_keys.append(hash64(seed, document.id))
                held.append(held_out(document.id, fraction))
                done += sizes[-1]
            progress(len(lengths), done)
    keys = np.frombuffer(shuffle_keys, np.uint64)
    _require_different(keys)
    offsets = np.concatenate([[0], np.cumsum(np.frombuffer(lengths, np.int64))]).astype(np.int64)
    tokens = np.memmap(path, dtype, "r") if len(lengths) else np.empty(0, dtype)
    return Tokenized(tokens, offsets, np.frombuffer(sizes, np.int64), keys, np.frombuffer(held, np.bool_))


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _require_different(keys: np.ndarray) -> None:
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(same):
        first, second = order[same[0]] + 1, order[same[0] + 1] + 1
        raise ValueError(
            f"documents number {first} and {second} of the source have the same id; ids must differ in a source"
        )
