"""Memory of a training step by part, and the FLOPs that rematerialisation adds: estimates made before compiling.

A `mesh` here is the number of devices along each mesh axis, as `MeshAxes.sizes` returns it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.sharding import shard_count


def memory_parts(
    model: Model,
    mesh: Mapping[str, int],
    *,
    rows: int,
    length: int,
    grad_accum_steps: int,
    params: float,
    opt_state: float,
    frozen: float = 0.0,
) -> dict[str, float]:
    """Returns the bytes of the fullest device by part.

    rows: of a step, over all devices; length: tokens of a row. params (the trained ones), opt_state and frozen
    parameters: their bytes on a device, which are exact.
    """
    micro_rows = math.ceil(rows / grad_accum_steps / shard_count("batch", mesh))
    length = math.ceil(length / shard_count("length", mesh))
    return {
        "parameters (float32)": params,
        **({"frozen parameters": frozen} if frozen else {}),
        "optimizer": opt_state,
        "gradients (float32)": params * (1 if grad_accum_steps == 1 else 2),
        f"activations (estimate, remat {model.remat})": activation_bytes(model, micro_rows * length, mesh),
        "loss head (estimate)": loss_bytes(model, micro_rows * length, mesh),
        "gathered parameters (estimate)": gathered_bytes(model, mesh),
    }


def activation_bytes(model: Model, tokens: int, mesh: Mapping[str, int] | None = None) -> float:
    """Estimates the bytes that the forward pass keeps for the backward pass, and those of one block's working space.

    Per block: its input (D) always; with remat "attention" also N H; with "dots" all products with weights but the
    feed-forward layer's last, which is recomputed with its input under every policy; with "none" those, the rotated
    heads and attention's output. While its backward pass runs, a block is alive in full with its gradients.

    tokens: on a device. mesh: splits heads and the feed-forward width; None: one device.
    """
    heads, kv, hidden = _widths(model, mesh)
    dots = heads + 2 * kv + 2 * model.width + (1 if model.mlp == "gelu" else 2) * hidden
    block = dots + 2 * heads + kv
    kept = {"full": 0, "attention": heads, "dots": dots, "none": block}[model.remat]
    return model.dtype.itemsize * tokens * (model.layers * (model.width + kept) + 2 * block)


def loss_bytes(model: Model, tokens: int, mesh: Mapping[str, int]) -> float:
    """Estimates the bytes of the chunked loss head: logits and their gradient for a chunk, and the hidden states'
    gradient; where the head is split over its width, also the gathered head and its float32 gradient."""
    columns = model.vocab_size / shard_count("vocab", mesh)
    chunk = min(tokens, max(model.width, 256))
    split = shard_count("width", mesh) > 1
    return (4 + 2) * chunk * columns + 4 * tokens * model.width + split * (4 + 2) * model.width * columns


def gathered_bytes(model: Model, mesh: Mapping[str, int]) -> float:
    """Estimates the bytes of two blocks' parameters in the compute dtype and of their gradients, where width is
    split."""
    if shard_count("width", mesh) == 1:
        return 0.0
    return 2 * (model.dtype.itemsize + model.gradient_dtype.itemsize) * block_weights(model, mesh)


def block_weights(model: Model, mesh: Mapping[str, int] | None = None) -> float:
    """Counts the weights in the matrix products of one block, on a device that has gathered their width.

    mesh: splits heads and the feed-forward width; None: one device.
    """
    heads, kv, hidden = _widths(model, mesh)
    return 2 * model.width * (heads + kv) + model.width * hidden * (2 if model.mlp == "gelu" else 3)


def matmul_flops(model: Model, tokens: int, length: int) -> float:
    """Returns the FLOPs of all matrix products of a step of this many tokens, recomputation included.

    Unlike in `cost.flops_per_token`, attention's backward pass has the five products that it runs, not twice the
    forward pass's two. Recomputed are, of a block, with remat "full" all products, with "attention" all but
    attention's, with "dots" attention's alone.
    """
    attention = 4 * model.heads * model.head_dim * visible_keys(model, length)
    recomputes_weights, recomputes_attention = model.remat in ("full", "attention"), model.remat in ("full", "dots")
    block = 2 * block_weights(model) * (3 + recomputes_weights) + attention * (1 + 2.5 + recomputes_attention)
    return tokens * (model.layers * block + 3 * 2 * model.width * model.vocab_size)


def remat_choices(
    model: Model, tokens: int, length: int, mesh: Mapping[str, int] | None = None
) -> dict[str, tuple[float, float]]:
    """Returns, by remat policy, the bytes of activations that it saves and the share of FLOPs that it adds.

    Both are relative to "none". tokens: on a device, in a micro-batch.
    """
    activations, flops = {}, {}
    for name in ("none", "dots", "attention", "full"):
        choice = dataclasses.replace(model, remat=name)
        activations[name] = activation_bytes(choice, tokens, mesh)
        flops[name] = matmul_flops(choice, tokens, length)
    return {name: (activations["none"] - activations[name], flops[name] / flops["none"] - 1) for name in flops}


def visible_keys(model: Model, length: int) -> float:
    """Returns the mean number of keys that a query of a row of `length` tokens sees, over the layers.

    The query at t sees t + 1 keys, in a window of W at most W: their mean is W - W (W - 1) / 2T; without a window, or
    with one of at least T, (T + 1) / 2.
    """
    windows = [length if window is None else min(window, length) for window in model.windows]
    return sum(window - window * (window - 1) / (2 * length) for window in windows) / len(windows)


def _widths(model: Model, mesh: Mapping[str, int] | None) -> tuple[float, float, float]:
    """Widths of queries, of keys (and of values), and of the feed-forward layer, on a device."""

    def part(size: int, name: str) -> float:
        return size if mesh is None else size / shard_count(name, mesh)

    heads = part(model.heads * model.head_dim, "heads")
    return heads, part(model.key_heads * model.head_dim, "kv_heads"), part(model.mlp_dim, "mlp_dim")
