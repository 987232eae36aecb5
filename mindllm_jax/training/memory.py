"""Memory of a training step by part, and the FLOPs that rematerialisation adds: estimates made before compiling."""

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
    moments: float,
) -> dict[str, float]:
    """Bytes of the fullest device by part. params and moments: bytes of them on a device; they are exact.

    mesh: devices along each axis, as in `MeshAxes`.
    """
    micro_rows = math.ceil(rows / grad_accum_steps / shard_count("batch", mesh))
    length = math.ceil(length / shard_count("length", mesh))
    return {
        "parameters (float32)": params,
        "optimizer": moments,
        "gradients (float32)": params * (1 if grad_accum_steps == 1 else 2),
        f"activations (estimate, remat {model.remat})": activation_bytes(model, micro_rows * length, mesh["tensor"]),
        "loss head (estimate)": loss_bytes(model, micro_rows * length, mesh),
        "gathered parameters (estimate)": gathered_bytes(model, mesh),
    }


def activation_bytes(model: Model, tokens: int, tensor: int = 1) -> float:
    """Estimate of what the forward pass keeps for the backward pass, and of one block's working space.

    Of each block: its input (D) always; with remat "attention" also N H; with "dots" all products with weights but the
    feed-forward layer's last, which is computed again with its input whatever the policy; with "none" those, the
    rotated heads and attention's output. While its backward pass runs, a block is alive in full with its gradients.
    Heads and feed-forward are split over `tensor` devices.
    """
    heads, kv, hidden = (size / tensor for size in _widths(model))
    dots = heads + 2 * kv + 2 * model.width + (1 if model.mlp == "gelu" else 2) * hidden
    whole = dots + 2 * heads + kv
    kept = {"full": 0, "attention": heads, "dots": dots, "none": whole}[model.remat]
    return model.dtype.itemsize * tokens * (model.layers * (model.width + kept) + 2 * whole)


def loss_bytes(model: Model, tokens: int, mesh: Mapping[str, int]) -> float:
    """Estimate for the chunked loss head: logits and their gradient for a chunk, and the gradient of the hidden states;
    where the head is split over its width, also the whole head that is gathered and the float32 gradient of it."""
    columns = model.vocab_size / mesh["tensor"]
    chunk = min(tokens, max(model.width, 256))
    split = shard_count("width", mesh) > 1
    return (4 + 2) * chunk * columns + 4 * tokens * model.width + split * (4 + 2) * model.width * columns


def gathered_bytes(model: Model, mesh: Mapping[str, int]) -> float:
    """Estimate for two blocks' parameters in the compute dtype and their gradients, where they are split over width."""
    if shard_count("width", mesh) == 1:
        return 0.0
    return 2 * (model.dtype.itemsize + model.gradient_dtype.itemsize) * block_weights(model) / mesh["tensor"]


def block_weights(model: Model) -> int:
    """Weights in the matrix products of one block."""
    heads, kv, hidden = _widths(model)
    return 2 * model.width * (heads + kv) + model.width * hidden * (2 if model.mlp == "gelu" else 3)


def matmul_flops(model: Model, tokens: int, length: int) -> float:
    """FLOPs of all matrix products of a step of so many tokens, with those that are computed again.

    Unlike in `cost.flops_per_token`, attention's backward pass has the five products that it runs, not twice the
    forward pass's two. Computed again are, of a block, with remat "full" all products, with "attention" all but
    attention's, with "dots" attention's alone.
    """
    attention = 4 * model.heads * model.head_dim * visible_keys(model, length)
    weights_again, attention_again = model.remat in ("full", "attention"), model.remat in ("full", "dots")
    block = 2 * block_weights(model) * (3 + weights_again) + attention * (1 + 2.5 + attention_again)
    return tokens * (model.layers * block + 3 * 2 * model.width * model.vocab_size)


def remat_choices(model: Model, tokens: int, length: int, tensor: int = 1) -> dict[str, tuple[float, float]]:
    """For every policy: bytes of activations that it saves, and the share of FLOPs that it adds, both against none."""
    kept, done = {}, {}
    for name in ("none", "dots", "attention", "full"):
        choice = dataclasses.replace(model, remat=name)
        kept[name] = activation_bytes(choice, tokens, tensor)
        done[name] = matmul_flops(choice, tokens, length)
    return {name: (kept["none"] - kept[name], done[name] / done["none"] - 1) for name in kept}


def visible_keys(model: Model, length: int) -> float:
    """Keys that a query of a row of `length` tokens sees on average: the query at t sees t + 1, of a window at most W.

    Their mean is W - W (W - 1) / 2T; without a window, or with one of at least T, it is (T + 1) / 2.
    """
    window = length if model.window is None else min(model.window, length)
    return window - window * (window - 1) / (2 * length)


def _widths(model: Model) -> tuple[int, int, int]:
    """Of queries, of keys (and of values), and of the feed-forward layer."""
    return model.heads * model.head_dim, model.key_heads * model.head_dim, model.mlp_dim
