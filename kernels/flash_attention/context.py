"""Context parallelism: rows split over devices in an order that balances the work of causal attention (zig-zag).

Over C devices a row has 2C chunks, and device c holds the chunks c and 2C - 1 - c: the queries of chunk i see i + 1
chunks of keys, so every device computes 2C + 1 of them. Keys and values are all-gathered before the products, and their
gradients reduce-scattered after them (Llama 3, section 3.3.2). A device holds the keys and values of full rows for one
layer at a time; a ring would pass the same bytes in C steps and hold less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BLOCK, BlockRanges
from mindllm_jax.kernels.flash_attention.problem import Masking
from mindllm_jax.kernels.partition import axes_of, shards

Axes = tuple[str, ...]


def splitting_axes(partition: PartitionSpec | None) -> Axes:
    """Returns the axes of the current mesh that split the length of an array; () for one device."""
    axes = () if partition is None else axes_of(partition, 1)
    return axes if axes and shards(axes) > 1 else ()


def balanced(x: jax.Array, partition: PartitionSpec) -> jax.Array:
    """Returns x [B T ...] with rows in balanced order, which `flash_attention` takes where `partition` splits T.

    partition: of x over the current mesh; extra axes are ignored. Raises ValueError when T is not a multiple of twice
    the devices.
    """
    return _reorder(x, partition, _to_balanced)


def natural(x: jax.Array, partition: PartitionSpec) -> jax.Array:
    """Returns x [B T ...] with rows in natural order: inverts `balanced`."""
    return _reorder(x, partition, _to_natural)


def forward(attend: Callable[..., Any], axes: Axes, q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking) -> Any:
    """Returns output and log-sum-exp of this device's queries; call it inside a shard_map.

    attend: (q, k, v, masking) to output and log-sum-exp.
    """
    k, v, masking = _gather_keys(k, v, masking, axes)
    halves = [attend(half(q), k, v, of_half) for half, of_half in _halves(q.shape[1], masking, axes)]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *halves)


def backward(
    attend_backward: Callable[..., Any],
    axes: Axes,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    masking: Masking,
    *results: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients of this device's q, k and v. results: out, lse and their gradients, for attend_backward."""
    k, v, masking = _gather_keys(k, v, masking, axes)
    dq, dk, dv = zip(
        *(
            attend_backward(half(q), k, v, of_half, *map(half, results))
            for half, of_half in _halves(q.shape[1], masking, axes)
        ),
        strict=True,
    )
    return jnp.concatenate(dq, axis=1), _reduce_scatter(dk, axes), _reduce_scatter(dv, axes)


def check_halves(length: int, axes: Axes) -> None:
    """Raises ValueError when the current mesh cannot split rows of this length into two chunks per device."""
    if length % (2 * shards(axes)):
        raise ValueError(
            f"length = {length} is not a multiple of {2 * shards(axes)}: two chunks for each of the {shards(axes)} "
            f"shards of partition axes {axes}"
        )


def _halves(length: int, masking: Masking, axes: Axes) -> Iterator[tuple[Callable[[jax.Array], jax.Array], Masking]]:
    """Yields, for both chunks of this device, a function that slices them out of [B, length, ...] and a masking."""
    size, device, devices = length // 2, lax.axis_index(axes), lax.axis_size(axes)
    for start, chunk in ((0, device), (size, 2 * devices - 1 - device)):

        def half(x: jax.Array, start: int = start) -> jax.Array:
            return x[:, start : start + size]

        ranges = masking.ranges
        if ranges is not None:
            # Ranges are optional; a block that two chunks share has none of its own.
            blocks = size // BLOCK
            ranges = (
                BlockRanges(*(lax.dynamic_slice_in_dim(x, chunk * blocks, blocks, axis=1) for x in ranges))
                if size % BLOCK == 0
                else None
            )
        segments = None if masking.q_segments is None else half(masking.q_segments)
        offset = (masking.q_offset + chunk * size).astype(jnp.int32)
        yield half, Masking(offset, segments, masking.kv_segments, ranges)


def _gather_keys(k: jax.Array, v: jax.Array, masking: Masking, axes: Axes) -> tuple[jax.Array, jax.Array, Masking]:
    """All-gathers keys, values and their documents, in natural order."""

    def gather(x: jax.Array) -> jax.Array:
        x = lax.all_gather(x, axes, axis=1)  # [B C T/C ...]
        x = x.reshape(x.shape[0], x.shape[1], 2, x.shape[2] // 2, *x.shape[3:])
        x = jnp.concatenate([x[:, :, 0], jnp.flip(x[:, :, 1], axis=1)], axis=1)
        return x.reshape(x.shape[0], -1, *x.shape[3:])

    segments = None if masking.kv_segments is None else gather(masking.kv_segments)
    return gather(k), gather(v), masking._replace(kv_segments=segments)


def _reduce_scatter(parts: tuple[jax.Array, ...], axes: Axes) -> jax.Array:
    """Sums gradients of full rows over halves and devices, and keeps this device's chunks."""
    dtype, devices = parts[0].dtype, lax.axis_size(axes)
    x = sum(part.astype(jnp.promote_types(dtype, jnp.float32)) for part in parts)
    assert isinstance(x, jax.Array)
    x = x.reshape(x.shape[0], 2 * devices, -1, *x.shape[2:])
    x = jnp.stack([x[:, :devices], jnp.flip(x[:, devices:], axis=1)], axis=2)
    x = lax.psum_scatter(x, axes, scatter_dimension=1)  # [B 2 T/2C ...]
    return x.reshape(x.shape[0], -1, *x.shape[3:]).astype(dtype)


def _reorder(x: jax.Array, partition: PartitionSpec, move: Callable[[jax.Array, Axes], jax.Array]) -> jax.Array:
    axes = splitting_axes(partition)
    if not axes:
        return x
    check_halves(x.shape[1], axes)
    spec = PartitionSpec(*partition[: x.ndim])
    return jax.shard_map(lambda x: move(x, axes), in_specs=spec, out_specs=spec, check_vma=False)(x)


# Chunk 2c and chunk 2c + 1 lie on device c in natural order. In balanced order a device has one even and one odd chunk
# too, so that both directions are two permutations: one of all even chunks, one of all odd ones.


def _to_balanced(x: jax.Array, axes: Axes) -> jax.Array:
    even, odd = jnp.split(x, 2, axis=1)
    even, odd = (lax.ppermute(part, axes, pairs) for part, pairs in zip((even, odd), _moves(axes), strict=True))
    return _swap_where_odd(even, odd, axes)


def _to_natural(x: jax.Array, axes: Axes) -> jax.Array:
    even, odd = jnp.split(_swap_where_odd(*jnp.split(x, 2, axis=1), axes), 2, axis=1)
    moves = ([(target, source) for source, target in pairs] for pairs in _moves(axes))
    return jnp.concatenate([lax.ppermute(part, axes, m) for part, m in zip((even, odd), moves, strict=True)], axis=1)


def _swap_where_odd(first: jax.Array, second: jax.Array, axes: Axes) -> jax.Array:
    """Concatenates two chunks, swapped on devices with odd numbers, whose first chunk is the odd one."""
    is_even = lax.axis_index(axes) % 2 == 0
    return jnp.where(is_even, jnp.concatenate([first, second], axis=1), jnp.concatenate([second, first], axis=1))


def _moves(axes: Axes) -> list[list[tuple[int, int]]]:
    """Returns the pairs (source, target) from natural to balanced order, of the even and of the odd chunks."""
    devices = lax.axis_size(axes)
    return [
        [(source, min(chunk, 2 * devices - 1 - chunk)) for source, chunk in enumerate(range(first, 2 * devices, 2))]
        for first in (0, 1)
    ]
