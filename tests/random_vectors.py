"""Random scales and biases, so that a test sees those that are left out."""

from __future__ import annotations

import numpy as np
from flax import nnx
from numerics import SEED

from mindllm_jax.model.decoder import Decoder


def with_random_vectors(decoder: Decoder) -> Decoder:
    """The decoder with other scales and biases than those that it starts with, ones and zeros."""
    rng = np.random.default_rng(SEED)
    for _, param in nnx.iter_graph(decoder):
        if isinstance(param, nnx.Param) and param.get_metadata().get("decay") is False:
            param[...] = param[...] + 0.3 * rng.normal(size=param[...].shape)
    return decoder
