"""What a run costs, by arithmetic: parameters, FLOPs, memory by part; and the peak rates it is held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mindllm_jax.model.config import Model
from mindllm_jax.reporting.tables import Table

PEAK_BF16_TFLOPS = {
    # dense bfloat16, TFLOP/s for one device, from the makers' data sheets
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5p": 459.0,
    "TPU v6 lite": 918.0,
    "TPU7x": 2307.0,
    "NVIDIA A100": 312.0,
    "NVIDIA H100": 989.0,
    "NVIDIA H200": 989.0,
}

FLOPS_FORMULA = "3 x (2 x weights in products + 2 L N H T) FLOPs a token: causal attention counted as half"


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of one device by jax's name for it; None where the table has no entry (CPUs)."""
    known = [name for name in PEAK_BF16_TFLOPS if device_kind.startswith(name)]
    return PEAK_BF16_TFLOPS[max(known, key=len)] * 1e12 if known else None


def flops_per_token(model: Model, length: int) -> float:
    """Training FLOPs a token of rows of `length` tokens: forward and twice that backward, without recomputation.

    Products with weights cost 2 FLOPs a weight. Attention's two products cost 4 N H S a token over S visible keys; of T
    keys a causal query sees half on average (all of it where the window is shorter). Packing is not discounted.
    """
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.key_heads)
    mlp = model.width * model.feed_forward * (2 if model.mlp == "gelu" else 3)
    weights = model.layers * (attention + mlp) + model.width * model.vocab_size
    visible = length / 2 if model.window is None else min(length / 2, model.window)
    return 3 * (2 * weights + 4 * model.layers * model.heads * model.head_dim * visible)


@dataclass(frozen=True)
class Cost:
    """Arithmetic of one run on one mesh. Bytes are those of the fullest device."""

    parameters: int
    tokens_per_step: int
    accumulation: int
    steps: int
    flops_per_token: float
    memory: dict[str, int]
    device_kind: str
    devices: int

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.tokens_per_step

    @property
    def flops(self) -> float:
        """Training FLOPs of the whole run."""
        return self.tokens * self.flops_per_token

    def utilization(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilization against the dense bfloat16 peak, or None where no peak is known."""
        peak = peak_flops(self.device_kind)
        return None if peak is None else tokens_per_second * self.flops_per_token / (peak * self.devices)

    def table(self) -> Table:
        """The table that is printed before anything is compiled."""
        peak = peak_flops(self.device_kind)
        rows = [
            ("parameters", f"{self.parameters:,} ({_short(self.parameters)})"),
            ("tokens a step", f"{self.tokens_per_step:,} in {self.accumulation} micro-batches"),
            ("steps", f"{self.steps:,}"),
            ("tokens", f"{self.tokens:,} ({_short(self.tokens)}), {self.tokens / self.parameters:.1f} a parameter"),
            ("FLOPs a token", f"{self.flops_per_token:.3e}"),
            ("FLOPs of the run", f"{self.flops:.3e}"),
            ("formula", FLOPS_FORMULA),
            ("devices", f"{self.devices} x {self.device_kind}"),
            ("peak", f"{peak / 1e12:.0f} TFLOP/s dense bfloat16 a device" if peak else "not known: no MFU is given"),
            *((f"memory: {part}", _gib(size)) for part, size in self.memory.items()),
            ("memory: sum, a device", _gib(sum(self.memory.values()))),
        ]
        return Table(("", ""), rows)


def run_cost(
    model: Model,
    params: Any,
    moments: Any,
    *,
    rows: int,
    length: int,
    accumulation: int,
    steps: int,
    devices: list[Any],
) -> Cost:
    """Cost of `steps` steps of `rows` x `length` tokens.

    params and moments are trees of arrays or ShapeDtypeStructs with shardings. Memory of activations and loss is an
    estimate by `activation_bytes`, the rest is exact.
    """
    micro_rows = math.ceil(rows / accumulation / len(devices))
    memory = {
        "parameters (float32)": _bytes_on_device(params),
        "optimizer": _bytes_on_device(moments),
        "gradients (float32)": _bytes_on_device(params) * (1 if accumulation == 1 else 2),
        f"activations (estimate, remat {model.remat})": activation_bytes(model, micro_rows, length),
        "loss head (estimate)": loss_bytes(model, micro_rows * length),
    }
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return Cost(
        count,
        rows * length,
        accumulation,
        steps,
        flops_per_token(model, length),
        memory,
        devices[0].device_kind,
        len(devices),
    )


def activation_bytes(model: Model, rows: int, length: int) -> int:
    """Estimate of what the forward pass keeps for the backward pass, and of one block's working space.

    Of each block: its input (D) always; with remat "attention" also N H; with "dots" all products with weights; with
    "none" those and the norms, rotated heads and gated products between them. One block is alive in full while its
    backward pass runs.
    """
    heads, kv, hidden = model.heads * model.head_dim, model.key_heads * model.head_dim, model.feed_forward
    dots = heads + 2 * kv + 2 * model.width + (2 if model.mlp == "gelu" else 3) * hidden
    whole = dots + 4 * model.width + 2 * heads + 2 * kv + 2 * hidden
    kept = {"full": 0, "attention": heads, "dots": dots, "none": whole}[model.remat]
    size = model.dtype.itemsize * rows * length
    return size * (model.layers * (model.width + kept) + whole)


def loss_bytes(model: Model, tokens: int, chunk: int = 1024) -> int:
    """Estimate for the chunked loss head: a chunk of logits and their gradient in float32, and the hidden gradient."""
    return 2 * 4 * min(tokens, chunk) * model.vocab_size + 4 * tokens * model.width


def _bytes_on_device(tree: Any) -> int:
    def size(leaf: Any) -> int:
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        return math.prod(shape) * np.dtype(leaf.dtype).itemsize

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


def _short(count: float) -> str:
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f}{unit}"
    return f"{count:.0f}"
