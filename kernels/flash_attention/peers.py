"""Attention of other libraries behind `flash_attention`, for benchmarks: used only when requested by name.

All take [B T N H] and [B T K H] with as many keys as queries, return the output alone, and are differentiable
themselves. `api.py` leaves out the features that they lack or implement differently: their log-sum-exps are rounded to
bfloat16 or cannot be differentiated, and a query without keys does not return zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings


def cudnn(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """Calls cuDNN's fused attention through JAX."""
    del masking
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=settings.scale,
        is_causal=settings.causal,
        local_window_size=_left_and_right(settings),
        implementation="cudnn",
    )


def tokamax(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """Calls the fastest of tokamax's kernels that supports the call; never its plain XLA."""
    import tokamax
    from absl import flags

    del masking
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # or tokamax would parse this program's command line
    return tokamax.dot_product_attention(
        q,
        k,
        v,
        scale=settings.scale,
        is_causal=settings.causal,
        local_window_size=_left_and_right(settings),
        logits_soft_cap=settings.logit_cap,
        implementation=("mosaic", "triton"),
    )


def splash(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """Calls splash attention, which is part of JAX and skips tiles by the static mask, not by documents.

    It has no scale and takes multiples of its tiles and lanes, so that queries are scaled before it, which rounds them
    once more unless the scale is a power of 2, and all arrays are padded.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    _, length, heads, head_dim = q.shape
    more = (0, -length % BLOCK)
    size = length + more[1]
    shape = (size, size)
    if settings.window is not None:
        mask = library.LocalMask(shape, (settings.window - 1, 0), offset=0)
    else:
        mask = library.CausalMask(shape) if settings.causal else library.FullMask(shape)
    # Of the tiles that divide the length, the largest that its users train with.
    tile = next(tile for tile in (512, 256, 128) if size % tile == 0)
    kernel = library.make_splash_mha_single_device(
        library.MultiHeadMask([mask] * heads),
        block_sizes=library.BlockSizes(
            block_q=tile, block_kv=tile, block_q_dkv=tile, block_kv_dkv=tile, block_q_dq=tile, block_kv_dq=tile
        ),
        attn_logits_soft_cap=settings.logit_cap,
    )
    q, k, v = (
        jnp.pad(x, ((0, 0), more, (0, 0), (0, -head_dim % 128))).transpose(0, 2, 1, 3)
        for x in (q * settings.scale, k, v)
    )
    ids = masking.q_segments
    if ids is None:
        # With a causal mask the padded keys come after all queries; otherwise they must be masked.
        ids = None if settings.causal or size == length else jnp.ones((q.shape[0], length), jnp.int32)
    if ids is None:
        return jax.vmap(kernel)(q, k, v).transpose(0, 2, 1, 3)[:, :length, :, :head_dim]
    padded = jnp.pad(ids, ((0, 0), more))
    # Padding is 0 among the queries and -1 among the keys, which never match.
    out = jax.vmap(kernel)(q, k, v, library.SegmentIds(padded, jnp.where(padded == 0, -1, padded)))
    return jnp.where((ids == 0)[:, :, None, None], 0, out.transpose(0, 2, 1, 3)[:, :length, :, :head_dim])


def _left_and_right(settings: Settings) -> tuple[int, int] | None:
    """Returns the window as both libraries count it: keys to the left of the query's position, and to the right."""
    return None if settings.window is None else (settings.window - 1, 0)
