"""Embeddings for an extended vocabulary: a new row begins as the mean of the rows that it replaces.

The mean of sub-tokens is the usual choice for added tokens; the method of the published 1.3B model is not known.
"""

import json
from collections.abc import Sequence

import numpy as np

from mindllm_jax.tokenization.imported_model import is_imported
from mindllm_jax.tokenization.tokenizer import Tokenizer


def replaced_ids(tokenizer: Tokenizer) -> list[list[int]]:
    """Returns GPT-2's ids for the text of each piece that a tokenizer adds to GPT-2's, in the order of their ids.

    Raises:
        ValueError: the tokenizer does not extend GPT-2's.
        ImportError: the library tokenizers is not installed.
    """
    if not tokenizer.model.startswith(b"{") or is_imported(tokenizer.model):
        raise ValueError(f"{tokenizer.path} does not extend another tokenizer")
    from tokenizers import Tokenizer as Backend

    content = json.loads(tokenizer.model)
    base = Backend.from_str(json.dumps(content | {"added_tokens": []}))
    added = range(len(content["model"]["vocab"]), tokenizer.vocab_size)
    return [encoding.ids for encoding in base.encode_batch([tokenizer.piece(id) for id in added])]


def grown_embedding(table: np.ndarray, replaced: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the table with one more row per entry of `replaced`: the mean of the rows that the entry names.

    It serves the embedding and, where it is not tied, the head of a model whose tokenizer gets more pieces.

    Args:
        table: [V D].
        replaced: for each new id, in order, the old ids that it replaces.

    Returns [V + new D], of the table's dtype.

    Raises ValueError for an entry that is empty or names a missing row.
    """
    for new, ids in enumerate(replaced):
        if not ids or not 0 <= min(ids) <= max(ids) < len(table):
            raise ValueError(f"new row {new} replaces {list(ids)}, but the table has the rows 0 to {len(table) - 1}")
    means = [table[list(ids)].mean(axis=0, dtype=np.float32) for ids in replaced]
    return np.concatenate([table, np.reshape(means, (-1, table.shape[1])).astype(table.dtype)])
