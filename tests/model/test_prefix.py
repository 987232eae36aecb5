"""Documents behind prefixes in the same and in other rows, against the whole documents in rows of their own."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED
from random_vectors import with_random_vectors

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.prefix import Prefix

TINY = Model(
    vocab_size=97, layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp_dim=48, max_seq_len=64,
    biases=("query_key_value",), compute_dtype="float64",
)  # fmt: skip
LENGTH, FAR = 24, 9


class Part(NamedTuple):
    """A segment of a row: tokens from `start` of a document that has `length`."""

    row: int
    document: int
    start: int
    length: int
    far: int = 0  # segment id of the prefix in row 1
    near: int = 0  # segment id of the prefix in the same row


# Row 1 begins with 9 tokens that all documents share; row 0 continues them in three, two of which share 6 more.
PARTS = (
    Part(1, 0, 0, FAR),
    Part(0, 1, FAR, 5, far=1),
    Part(0, 2, FAR, 6, far=1),
    Part(0, 2, FAR + 6, 4, far=1, near=2),
    Part(0, 3, FAR + 6, 7, far=1, near=2),
    Part(1, 4, FAR, 12, far=1),
)


def documents(random: np.random.Generator) -> np.ndarray:
    tokens = random.integers(0, TINY.vocab_size, (5, LENGTH), np.int32)
    tokens[:, :FAR] = tokens[0, :FAR]
    tokens[3, : FAR + 6] = tokens[2, : FAR + 6]
    return tokens


VARIANTS: dict[str, dict[str, Any]] = {
    "rope": {"windows": (None, 5)},
    "learned": {"positions": "learned", "windows": (11,), "attention_scale": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_behind_prefixes_have_the_hidden_states_of_the_whole_document(variant: str) -> None:
    with jax.enable_x64(True):
        decoder = with_random_vectors(Decoder(dataclasses.replace(TINY, **VARIANTS[variant]), rngs=nnx.Rngs(SEED)))
        whole = documents(np.random.default_rng(SEED))
        expected = np.asarray(nnx.jit(Decoder.__call__)(decoder, jnp.asarray(whole)))
        tokens, segments, positions, far, near = np.zeros((5, 2, LENGTH), np.int32)
        places: list[tuple[Part, slice]] = []
        ends, counts = [0, 0], [0, 0]
        for part in PARTS:
            place = slice(ends[part.row], ends[part.row] + part.length)
            ends[part.row], counts[part.row] = place.stop, counts[part.row] + 1
            tokens[part.row, place] = whole[part.document, part.start : part.start + part.length]
            segments[part.row, place] = counts[part.row]
            positions[part.row, place] = range(part.start, part.start + part.length)
            far[part.row, place], near[part.row, place] = part.far, part.near
            places.append((part, place))

        @nnx.jit
        def behind(decoder: Decoder, tokens: jax.Array, far: jax.Array, near: jax.Array) -> jax.Array:
            prefixes = [Prefix(far, jnp.array([1, 1])), Prefix(near)]
            return decoder(
                tokens, segment_ids=jnp.asarray(segments), positions=jnp.asarray(positions), prefixes=prefixes
            )

        found = np.asarray(behind(decoder, *map(jnp.asarray, (tokens, far, near))))
    assert np.isfinite(found).all()  # padding too, which others would see otherwise
    for part, place in places:
        of_document = expected[part.document, part.start : part.start + part.length]
        np.testing.assert_allclose(found[part.row, place], of_document, rtol=0, atol=1e-12)
