"""Block ranges against the dense mask."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from mindllm_jax.kernels.block_ranges import BLOCK, block_ranges

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.sampled_from([1, BLOCK, 700])  # few: each is compiled


def dense_blocks(q_ids: np.ndarray, kv_ids: np.ndarray) -> np.ndarray:
    """Whether a block of queries and a block of keys hold a pair of equal non-zero ids: bool [B, blocks, blocks]."""
    meet = (q_ids[:, :, None] == kv_ids[:, None, :]) & (q_ids != 0)[:, :, None]
    padded = [(0, 0), (0, -meet.shape[1] % BLOCK), (0, -meet.shape[2] % BLOCK)]
    batch, length, kv_length = np.pad(meet, padded).shape
    return np.pad(meet, padded).reshape(batch, length // BLOCK, BLOCK, kv_length // BLOCK, BLOCK).max((2, 4))


def visited(q_ids: np.ndarray, kv_ids: np.ndarray) -> np.ndarray:
    """The same of the blocks inside the ranges."""
    ranges = jax.jit(block_ranges)((jnp.asarray(q_ids), jnp.asarray(kv_ids)))
    blocks = np.arange(-(-kv_ids.shape[1] // BLOCK))
    start, stop = (np.asarray(x)[..., None] for x in ranges)
    return np.less_equal(start, blocks) & np.less(blocks, stop)


@hypothesis.given(SEEDS, LENGTHS, LENGTHS, st.integers(1, 9))
@hypothesis.settings(max_examples=50)
def test_no_pair_is_skipped(seed: int, length: int, kv_length: int, documents: int) -> None:
    rng = np.random.default_rng(seed)
    q_ids = rng.integers(0, documents, (2, length), dtype=np.int32)
    kv_ids = rng.integers(0, documents, (2, kv_length), dtype=np.int32)
    if seed % 2:  # documents in pieces; the others are single positions
        q_ids, kv_ids = np.sort(q_ids, axis=1), np.sort(kv_ids, axis=1)[:, ::-1]
    assert not (dense_blocks(q_ids, kv_ids) & ~visited(q_ids, kv_ids)).any()


@hypothesis.given(SEEDS, LENGTHS, st.integers(1, 20), st.integers(0, 300))
@hypothesis.settings(max_examples=50)
def test_packed_rows_visit_no_empty_block(seed: int, length: int, documents: int, padding: int) -> None:
    """Ids as packing makes them: growing by one, padding behind."""
    rng = np.random.default_rng(seed)
    ids = 1 + np.cumsum(rng.random((3, length)) < documents / length, axis=1, dtype=np.int32)
    ids[:, max(0, length - padding) :] = 0
    assert (visited(ids, ids) == dense_blocks(ids, ids)).all()


def test_packed_rows_cost_little_more_than_their_documents() -> None:
    """Blocks that causal rows of 8,192 with documents of mean 1,024 visit, over the documents' triangles."""
    rng = np.random.default_rng(0)
    ends = np.cumsum(1 + rng.exponential(1024, (64, 100)).astype(int), axis=1)
    ids = np.stack([1 + np.searchsorted(row, np.arange(8192), side="right") for row in ends]).astype(np.int32)
    blocks = np.arange(8192 // BLOCK)
    visits = (visited(ids, ids) & (blocks[:, None] >= blocks)).sum()
    lengths = np.concatenate([np.bincount(row) for row in ids])
    ratio = visits * BLOCK**2 / (lengths * (lengths + 1) / 2).sum()
    print(f"visited over ideal: {ratio:.3f}")
    assert 1 < ratio < 1.35
