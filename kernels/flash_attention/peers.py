"""Other people's attention behind our entry, to measure against: taken only when asked for by name.

All take [B T N H] and [B T K H] with as many keys as queries, give the output alone, and are differentiable by
themselves. What the table in `api.py` leaves out of their features they cannot do, or not as promised there: their
log-sum-exps are rounded to bfloat16 or cannot be differentiated, and a query that no key meets gives no zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings


def cudnn(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """cuDNN's fused attention, as JAX calls it."""
    del masking
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=settings.scale,
        is_causal=settings.causal,
        local_window_size=_left(settings),
        implementation="cudnn",
    )


def tokamax(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """The faster of tokamax's kernels that takes the call; never its plain XLA."""
    import tokamax
    from absl import flags

    del masking
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # or tokamax reads this program's command line for settings of its own
    return tokamax.dot_product_attention(
        q,
        k,
        v,
        scale=settings.scale,
        is_causal=settings.causal,
        local_window_size=_left(settings),
        logits_soft_cap=settings.logit_cap,
        implementation=("mosaic", "triton"),
    )


def splash(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> jax.Array:
    """Splash attention, which comes with JAX: skips tiles by the static mask, not by documents.

    It takes no scale, lengths in whole tiles and heads of whole lanes, so that queries are scaled here, which rounds
    them once more unless the scale is a power of 2, and all is padded.
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
    # Of the tiles that divide the length the largest with which its users train.
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
        # Of causal keys the padding comes after all queries; other queries have to be kept from it.
        ids = None if settings.causal or size == length else jnp.ones((q.shape[0], length), jnp.int32)
    if ids is None:
        return jax.vmap(kernel)(q, k, v).transpose(0, 2, 1, 3)[:, :length, :, :head_dim]
    padded = jnp.pad(ids, ((0, 0), more))
    # Padding meets nothing: it is 0 among the queries and -1 among the keys.
    out = jax.vmap(kernel)(q, k, v, library.SegmentIds(padded, jnp.where(padded == 0, -1, padded)))
    return jnp.where((ids == 0)[:, :, None, None], 0, out.transpose(0, 2, 1, 3)[:, :length, :, :head_dim])


def _left(settings: Settings) -> tuple[int, int] | None:
    """The window as both libraries count it: keys to the left of the query's own, and to the right."""
    return None if settings.window is None else (settings.window - 1, 0)
