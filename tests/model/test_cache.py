"""Decoding with the cache against the full forward pass: rows of unequal lengths, in parts of unequal sizes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED
from random_vectors import with_random_vectors

from mindllm_jax.model.cache import LayerCache, Rows
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

TINY = Model(vocab_size=97, layers=3, width=32, heads=4, kv_heads=2, head_dim=8, mlp_dim=48, max_seq_len=64)

ROWS, LONGEST, WIDTH = 3, 30, 9
CALLS = (
    (0, (7, 1, 3)),
    (0, (1, 1, 1)),
    (1, (6,)),
    (0, (1, 0, 1)),
    (0, (1, 1)),
    (2, (9,)),
    (2, (9,)),
    (1, (0, 1)),
    (0, (1, 0, 1)),
    (0, (5,)),
)
"""The first row of each call, and the new tokens of its rows; rows grow past both windows, within and between calls."""


@pytest.mark.long
@pytest.mark.parametrize(("positions", "windows"), [("rope", (5,)), ("learned", (None, 3, 5))], ids=str)
def test_parts_of_rows_give_the_logits_of_whole_rows(positions, windows: tuple[int | None, ...]) -> None:
    config = dataclasses.replace(TINY, windows=windows, positions=positions, compute_dtype="float64")
    with jax.enable_x64(True):
        decoder = with_random_vectors(Decoder(config, rngs=nnx.Rngs(SEED)))
        tokens = np.random.default_rng(SEED).integers(0, config.vocab_size, (ROWS, LONGEST), np.int32)
        whole = np.asarray(nnx.jit(Decoder.__call__)(decoder, jnp.asarray(tokens)))
        decode = nnx.jit(Decoder.decode)
        cache, lengths = decoder.new_cache(ROWS, LONGEST), np.zeros(ROWS, int)
        for first, counts in CALLS:
            rows = slice(first, first + len(counts))
            # What stands behind a row's new tokens must not matter: other tokens of the row.
            part = np.stack([np.roll(row, -length) for row, length in zip(tokens[rows], lengths[rows], strict=True)])
            new = jnp.asarray(part[:, : 1 if max(counts) == 1 else WIDTH])
            hidden, cache = decode(decoder, new, cache, jnp.asarray(counts, jnp.int32), jnp.int32(first))
            for row, count in enumerate(counts):
                start = lengths[first + row]
                expected = whole[first + row, start : start + count]
                np.testing.assert_allclose(hidden[row, :count], expected, rtol=0, atol=1e-12)
            lengths[rows] += counts
            np.testing.assert_array_equal(cache.lengths, lengths)
    assert lengths.tolist() == [16, 9, 25]


def test_a_layer_with_a_window_keeps_no_more_than_the_window() -> None:
    cache = Decoder(dataclasses.replace(TINY, windows=(None, 3, 50)), rngs=nnx.Rngs(0)).new_cache(2, 40)
    assert [layer.keys.shape for layer in cache.layers] == [(1, 2, 2, slots, 8) for slots in (40, 3, 40)]


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_ring_holds_the_newest_tokens_of_each_row(slots: int) -> None:
    """Random calls against lists: one token or several, counts from 0, the first row or another, many rounds."""
    layers, rows, draw = 2, 4, np.random.default_rng(slots)
    append = jax.jit(LayerCache.append, static_argnames="window")
    empty = jnp.zeros((layers, rows, 1, slots, 1))
    ring = LayerCache(empty, empty)
    tokens: dict[tuple[int, int], list[float]] = {(layer, row): [] for layer in range(layers) for row in range(rows)}
    for _ in range(60):
        layer, width = int(draw.integers(layers)), int(draw.choice([1, 2, 7]))
        batch = 1 if width > 1 else int(draw.integers(1, rows + 1))  # several tokens need rows of equal lengths
        first = int(draw.integers(0, rows - batch + 1))
        lengths = [len(tokens[layer, first + row]) for row in range(batch)]
        counts = draw.integers(0, width + 1, batch)
        new = draw.normal(size=(batch, width, 1, 1)).astype(np.float32)
        where = Rows(jnp.int32(first), jnp.asarray(lengths, jnp.int32), jnp.asarray(counts, jnp.int32))
        ring = append(ring, jnp.int32(layer), where, jnp.asarray(new), jnp.asarray(-new), window=slots)
        for row in range(batch):
            tokens[layer, first + row] += new[row, : counts[row], 0, 0].tolist()
        expected = np.zeros((layers, rows, slots), np.float32)
        for place, values in tokens.items():
            for position, value in enumerate(values):
                expected[place][position % slots] = value
        np.testing.assert_array_equal(ring.keys[:, :, 0, :, 0], expected)
        np.testing.assert_array_equal(ring.values[:, :, 0, :, 0], -expected)
    assert max(map(len, tokens.values())) > 2 * slots
