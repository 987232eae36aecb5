"""Putting rows where a decoder's devices want them."""

import math

import jax
import numpy as np

from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding


def sharding_of(decoder: Decoder) -> Sharding:
    """The decoder's own, or that of one device where it has none."""
    return decoder.sharding or Sharding(MeshAxes().build(jax.local_devices()[:1]))


def even_rows(decoder: Decoder, rows: int) -> int:
    """The least number of rows, at least `rows`, that the decoder's devices share evenly."""
    shares = sharding_of(decoder).shards("batch")
    return math.ceil(rows / shares) * shares


def place(decoder: Decoder, array: np.ndarray, *names: str) -> jax.Array:
    """One global array of what every process has in full; `names` are its logical axes, none: whole on every device."""
    return jax.device_put(array, sharding_of(decoder).named(*names))
