"""Rows of a table that is split over the mesh.

Left to the compiler, the backward pass adds up the gradient of the whole table on every device and sums it over all of
them. Here a device looks up its columns for the tokens of all that share the table with it, and they exchange columns
for tokens; the backward pass makes the same exchange back, and each adds up what is its own.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mindllm_jax.parallel.sharding import RULES, Sharding

WIDTH, VOCAB = RULES["width"], RULES["vocab"]
COPIES = tuple(axis for axis in RULES["batch"] + RULES["length"] if axis not in WIDTH)
"""Mesh axes along which devices hold the same part of the table and other tokens."""


def lookup(table: jax.Array, tokens: jax.Array, dtype: jnp.dtype, sharding: Sharding | None) -> jax.Array:
    """Rows [B T D] in `dtype` of a table [V D] with the logical axes "vocab" and "width", at tokens int32 [B T].

    Differentiable in the table; its gradient is summed in the table's dtype.
    """
    if sharding is None or sharding.mesh.size == 1:
        return table[tokens].astype(dtype)
    return _lookup(dtype, sharding, table, tokens)


def _exchanged(dtype: jnp.dtype, sharding: Sharding, table: jax.Array, tokens: jax.Array) -> jax.Array:
    def of_shard(table: jax.Array, tokens: jax.Array) -> jax.Array:
        rows = table.at[_own_rows(table, tokens)].get(mode="fill", fill_value=0).astype(dtype)
        rows = lax.all_to_all(lax.psum(rows, VOCAB), WIDTH, 0, 0, tiled=True)  # [W B T D/W], now all columns
        return jnp.moveaxis(rows, 0, 2).reshape(*tokens.shape, -1)

    return _mapped(sharding, of_shard, backward=False)(table, tokens)


def _own_rows(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """Which rows of this device's part the tokens of all W devices with its rows want, [W B T]; V where none."""
    wanted = lax.all_gather(tokens, WIDTH) - len(table) * lax.axis_index(VOCAB)
    return jnp.where(wanted < 0, len(table), wanted)


def _mapped(sharding: Sharding, function: Any, *, backward: bool) -> Any:
    table, tokens = sharding.spec("vocab", "width"), sharding.spec("batch", "length")
    rows = sharding.spec("batch", "length", "features")
    specs = ((table, tokens, rows), table) if backward else ((table, tokens), rows)
    mesh = sharding.mesh.abstract_mesh
    return jax.shard_map(function, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)


def _forward(dtype: jnp.dtype, sharding: Sharding, table: jax.Array, tokens: jax.Array) -> Any:
    return _exchanged(dtype, sharding, table, tokens), (table, tokens)


def _backward(_: jnp.dtype, sharding: Sharding, kept: tuple[jax.Array, jax.Array], d_rows: jax.Array) -> Any:
    def of_shard(table: jax.Array, tokens: jax.Array, d_rows: jax.Array) -> jax.Array:
        parts = d_rows.reshape(*tokens.shape, -1, table.shape[1])
        parts = lax.all_to_all(jnp.moveaxis(parts, 2, 0), WIDTH, 0, 0, tiled=True)
        own = jnp.zeros_like(table).at[_own_rows(table, tokens)].add(parts.astype(table.dtype), mode="drop")
        return lax.psum(own, COPIES)

    return _mapped(sharding, of_shard, backward=True)(*kept, d_rows), None


_lookup: Any = jax.custom_vjp(_exchanged, nondiff_argnums=(0, 1))
_lookup.defvjp(_forward, _backward)
