"""Initial weights by residual scheme, in units of Glorot's standard deviation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

LAYERS, WIDTH, HIDDEN = 8, 128, 192


@pytest.mark.parametrize(
    ("residual", "inner", "outer"),
    [
        ("deepnorm", (8 * LAYERS) ** -0.25, (8 * LAYERS) ** -0.25),
        ("post_norm", 1, 1),
        ("pre_norm", 1, (2 * LAYERS) ** -0.5),  # GPT-2 scales the projections into the stream alone
    ],
)
def test_gains_of_a_branch(residual: Literal["deepnorm", "post_norm", "pre_norm"], inner: float, outer: float) -> None:
    model = Model(
        vocab_size=16,
        layers=LAYERS,
        width=WIDTH,
        heads=4,
        head_dim=32,
        mlp_dim=HIDDEN,
        max_seq_len=8,
        residual=residual,
    )
    blocks = Decoder(model, rngs=nnx.Rngs(0)).blocks  # matrices stacked on a leading axis L
    attention, mlp = blocks.attention, blocks.mlp
    assert mlp.gate is not None
    square, oblong = math.sqrt(2 / (WIDTH + WIDTH)), math.sqrt(2 / (WIDTH + HIDDEN))
    for matrix, glorot, gain in (
        (attention.query, square, 1),
        (attention.key, square, 1),
        (attention.value, square, inner),
        (attention.out, square, outer),
        (mlp.gate, oblong, 1),
        (mlp.up, oblong, inner),
        (mlp.down, oblong, outer),
    ):
        five_standard_errors = 5 / math.sqrt(2 * matrix.size)
        assert np.std(matrix[...]) / glorot == pytest.approx(gain, rel=five_standard_errors)
