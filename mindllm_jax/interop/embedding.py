"""The embedding of a model whose vocabulary grows: new rows begin as the mean of those they replace.

Source: mean of the sub-tokens, as is usual where tokens are added; what the published 1.3B model did is not known.
"""

import json
from collections.abc import Sequence

import numpy as np

from mindllm_jax.tokenization.tokenizer import Tokenizer


def replaced_ids(tokenizer: Tokenizer) -> list[list[int]]:
    """By id behind GPT-2's, the ids that GPT-2 has for the same text; of a tokenizer that extends GPT-2's.

    Raises:
        ValueError: the tokenizer does not.
        ImportError: the library tokenizers is not installed.
    """
    if not tokenizer.model.startswith(b"{"):
        raise ValueError(f"{tokenizer.path} does not extend another tokenizer, so its pieces replace none")
    from tokenizers import Tokenizer as Backend

    content = json.loads(tokenizer.model)
    base = Backend.from_str(json.dumps(content | {"added_tokens": []}))
    added = range(len(content["model"]["vocab"]), tokenizer.vocab_size)
    return [encoding.ids for encoding in base.encode_batch([tokenizer.piece(id) for id in added])]


def grown_embedding(table: np.ndarray, replaced: Sequence[Sequence[int]]) -> np.ndarray:
    """A table with a row more for each entry of `replaced`, the mean of the rows that it names.

    For the embedding and, where it is not tied, the head of a model that goes on with a tokenizer of more pieces.

    Args:
        table: [V D].
        replaced: for each new id, in order, the old ids that it stands in for.

    Returns [V + new D], of the table's dtype.

    Raises ValueError when an entry is empty or names a row that is not there.
    """
    for new, ids in enumerate(replaced):
        if not ids or not 0 <= min(ids) <= max(ids) < len(table):
            raise ValueError(f"new row {new} replaces {list(ids)}, but the table has the rows 0 to {len(table) - 1}")
    means = [table[list(ids)].mean(axis=0, dtype=np.float32) for ids in replaced]
    return np.concatenate([table, np.reshape(means, (-1, table.shape[1])).astype(table.dtype)])
