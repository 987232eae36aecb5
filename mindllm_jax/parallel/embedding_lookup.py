"""Embedding lookup in a table that is split over the mesh.

Left to the compiler, the backward pass sums the gradient of the full table on every device and all-reduces it. Here a
device looks up its columns for the tokens of all W devices that split the width, and an all-to-all exchanges columns
for tokens; the backward pass exchanges them back, and each device sums the gradient of its own part.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mindllm_jax.parallel.sharding import RULES, Sharding, replica_axes


def lookup(table: jax.Array, tokens: jax.Array, dtype: jnp.dtype, sharding: Sharding | None) -> jax.Array:
    """Returns the rows [B T D] in `dtype` of a table [V D], with the logical axes "vocab" and "width", at tokens [B T].

    Differentiable in the table; its gradient is summed in the table's dtype.
    """
    if sharding is None or sharding.mesh.size == 1:
        return table[tokens].astype(dtype)
    return _sharded_lookup(dtype, sharding, table, tokens)


def _lookup(dtype: jnp.dtype, sharding: Sharding, table: jax.Array, tokens: jax.Array) -> jax.Array:
    def per_shard(table: jax.Array, tokens: jax.Array) -> jax.Array:
        rows = table.at[_local_rows(table, tokens)].get(mode="fill", fill_value=0).astype(dtype)
        rows = lax.all_to_all(lax.psum(rows, RULES["vocab"]), RULES["width"], 0, 0, tiled=True)  # [W B T D/W]
        return jnp.moveaxis(rows, 0, 2).reshape(*tokens.shape, -1)

    return _shard_map(sharding, per_shard, backward=False)(table, tokens)


def _local_rows(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """Returns the rows of this device's part for the tokens of all W devices, [W B T]; V of the part for others."""
    rows = lax.all_gather(tokens, RULES["width"]) - len(table) * lax.axis_index(RULES["vocab"])
    return jnp.where(rows < 0, len(table), rows)


def _shard_map(sharding: Sharding, function: Any, *, backward: bool) -> Any:
    table, tokens = sharding.spec("vocab", "width"), sharding.spec("batch", "length")
    rows = sharding.spec("batch", "length", "features")
    specs = ((table, tokens, rows), table) if backward else ((table, tokens), rows)
    mesh = sharding.mesh.abstract_mesh
    return jax.shard_map(function, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)


def _forward(dtype: jnp.dtype, sharding: Sharding, table: jax.Array, tokens: jax.Array) -> Any:
    return _lookup(dtype, sharding, table, tokens), (table, tokens)


def _backward(_: jnp.dtype, sharding: Sharding, residuals: tuple[jax.Array, jax.Array], d_rows: jax.Array) -> Any:
    def per_shard(table: jax.Array, tokens: jax.Array, d_rows: jax.Array) -> jax.Array:
        parts = d_rows.reshape(*tokens.shape, -1, table.shape[1])
        parts = lax.all_to_all(jnp.moveaxis(parts, 2, 0), RULES["width"], 0, 0, tiled=True)
        d_table = jnp.zeros_like(table).at[_local_rows(table, tokens)].add(parts.astype(table.dtype), mode="drop")
        return lax.psum(d_table, replica_axes())

    return _shard_map(sharding, per_shard, backward=True)(*residuals, d_rows), None


_sharded_lookup: Any = jax.custom_vjp(_lookup, nondiff_argnums=(0, 1))
_sharded_lookup.defvjp(_forward, _backward)
