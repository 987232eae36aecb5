"""New rows of an embedding are the mean of the rows that they replace."""

import json
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.interop.embedding import grown_embedding, replaced_ids
from mindllm_jax.tokenization.tokenizer import Tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures/tokenizer.model"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_new_rows_are_means(dtype: type) -> None:
    table = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    grown = grown_embedding(table, [[1], [0, 5], [2, 2, 3]])
    assert grown.shape == (9, 4) and grown.dtype == dtype
    np.testing.assert_array_equal(grown[:6], table)
    np.testing.assert_array_equal(grown[6], table[1])
    exact = table.astype(np.float64)
    np.testing.assert_allclose(grown[7], (exact[0] + exact[5]) / 2, rtol=1e-3 if dtype is np.float16 else 1e-6)
    np.testing.assert_allclose(
        grown[8], (2 * exact[2] + exact[3]) / 3, rtol=1e-3 if dtype is np.float16 else 1e-6, atol=1e-6
    )


def test_nothing_new() -> None:
    table = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(grown_embedding(table, []), table)


@pytest.mark.parametrize("ids", [[], [3], [-1, 0]])
def test_missing_rows_raise(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"new row 1 replaces .*, but the table has the rows 0 to 2"):
        grown_embedding(np.ones((3, 2), np.float32), [[0], ids])


def test_replaced_ids_spell_the_same_text(extended: Tokenizer) -> None:
    base = len(json.loads(extended.model)["model"]["vocab"])
    replaced = replaced_ids(extended)
    assert len(replaced) == extended.vocab_size - base
    for id, ids in enumerate(replaced, start=base):
        assert max(ids) < base
        assert extended.decode_bytes(ids) == extended.piece(id).encode()
    table = np.random.default_rng(0).normal(size=(base, 4)).astype(np.float32)
    grown = grown_embedding(table, replaced)
    assert grown.shape == (extended.vocab_size, 4)
    np.testing.assert_allclose(grown[-1], table[replaced[-1]].mean(0), rtol=1e-6)


def test_tokenizer_that_does_not_extend_raises() -> None:
    with pytest.raises(ValueError, match="does not extend another tokenizer"):
        replaced_ids(Tokenizer.load(FIXTURE))
