"""What a run costs, by arithmetic: parameters, FLOPs, memory by part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mindllm_jax.hardware.peak_rates import USABLE, chip, told_memory
from mindllm_jax.model.config import Model
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.memory import block_weights, memory_parts, remat_choices, visible_keys

REMEDIES = {
    "parameters": "split them over more devices (MeshAxes.fsdp, MeshAxes.tensor)",
    "optimizer": "split it over more devices (MeshAxes.fsdp, MeshAxes.tensor)",
    "gradients": "split them over more devices (MeshAxes.fsdp, MeshAxes.tensor)",
    "activations": "take smaller micro-batches (Loop.grad_accum_steps), or keep less (Model.remat = 'full')",
    "loss head": "split the vocabulary (MeshAxes.tensor)",
    "gathered": "split the blocks (MeshAxes.tensor)",
}

FLOPS_FORMULA = (
    "3 x (2 x weights in products + 4 L N H S) FLOPs a token; a causal query sees S = (T + 1) / 2 keys on average, "
    "S = W - W (W - 1) / 2T in a window"
)


def flops_per_token(model: Model, length: int) -> float:
    """Training FLOPs a token of rows of `length` tokens: forward and twice that backward, without recomputation.

    Products with weights cost 2 FLOPs a weight. Attention's two products cost 4 N H S a token over S visible keys, of
    which `memory.visible_keys` gives the average. Packing is not discounted.
    """
    weights = model.layers * block_weights(model) + model.width * model.vocab_size
    attention = 4 * model.layers * model.heads * model.head_dim * visible_keys(model, length)
    return 3 * (2 * weights + attention)


@dataclass(frozen=True)
class Cost:
    """Arithmetic of one run on one mesh. Bytes are those of the fullest device."""

    parameters: int
    tokens_per_step: int
    grad_accum_steps: int
    steps: int
    flops_per_token: float
    memory: dict[str, float]
    remat: dict[str, tuple[float, float]]  # see `memory.remat_choices`
    device_kind: str
    compute_dtype: str
    devices: int
    told_memory: float | None = None  # bytes of a device that a step may take, where the runtime tells

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
        here = chip(self.device_kind)
        return None if here is None else tokens_per_second * self.flops_per_token / (here.flops * self.devices)

    def capacity(self) -> tuple[float, float] | None:
        """Bytes of a device's memory, and of these what a step may take; None where they are not known."""
        if self.told_memory is not None:
            return self.told_memory, self.told_memory
        here = chip(self.device_kind)
        return None if here is None else (here.memory, USABLE * here.memory)

    def warning(self) -> str | None:
        """What to change, if by this arithmetic a device has too little memory; None where it fits or is not known."""
        capacity, needed = self.capacity(), sum(self.memory.values())
        if capacity is None or needed <= capacity[1]:
            return None
        part = max(self.memory, key=self.memory.__getitem__)
        remedy = next(text for name, text in REMEDIES.items() if part.startswith(name))
        return (
            f"about {_gib(needed)} a device are needed and a {self.device_kind} has {_gib(capacity[0])}. The largest "
            f"part is {part}, {_gib(self.memory[part])}: {remedy}"
        )

    def table(self) -> Table:
        """The table that is printed before anything is compiled."""
        here, capacity = chip(self.device_kind), self.capacity()
        rows = [
            ("parameters", f"{self.parameters:,} ({_short(self.parameters)})"),
            ("tokens a step", f"{self.tokens_per_step:,} in {self.grad_accum_steps} micro-batches"),
            ("steps", f"{self.steps:,}"),
            ("tokens", f"{self.tokens:,} ({_short(self.tokens)}), {self.tokens / self.parameters:.1f} a parameter"),
            ("FLOPs a token", f"{self.flops_per_token:.3e}"),
            ("FLOPs of the run", f"{self.flops:.3e}"),
            ("formula", FLOPS_FORMULA),
            ("devices", f"{self.devices} x {self.device_kind}"),
            ("compute dtype", self.compute_dtype),
            ("peak", f"{here.flops / 1e12:.0f} TFLOP/s dense bfloat16 a device" if here else "not known: no MFU"),
            *((f"memory: {part}", _gib(size)) for part, size in self.memory.items()),
            (
                "memory: sum, a device",
                _gib(sum(self.memory.values())) + (f" of {_gib(capacity[0])}" if capacity else ""),
            ),
            *(
                (f"remat {name}", f"saves {_gib(saved)}, adds {added:.1%} FLOPs")
                for name, (saved, added) in self.remat.items()
            ),
        ]
        return Table(("", ""), rows)


def run_cost(
    model: Model,
    params: Any,
    moments: Any,
    *,
    rows: int,
    length: int,
    grad_accum_steps: int,
    steps: int,
    mesh: jax.sharding.Mesh,
) -> Cost:
    """Cost of `steps` steps of `rows` x `length` tokens.

    params and moments are trees of arrays or ShapeDtypeStructs with shardings.
    """
    sizes = dict(mesh.shape)
    memory = memory_parts(
        model,
        sizes,
        rows=rows,
        length=length,
        grad_accum_steps=grad_accum_steps,
        params=_bytes_on_device(params),
        moments=_bytes_on_device(moments),
    )
    tokens = rows * length * sizes["tensor"] // (grad_accum_steps * mesh.size)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return Cost(
        count,
        rows * length,
        grad_accum_steps,
        steps,
        flops_per_token(model, length),
        memory,
        remat_choices(model, tokens, length, sizes["tensor"]),
        mesh.devices.flat[0].device_kind,
        model.dtype.name,
        mesh.size,
        told_memory(mesh.devices.flat),
    )


def _bytes_on_device(tree: Any) -> int:
    def size(leaf: Any) -> int:
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        return math.prod(shape) * np.dtype(leaf.dtype).itemsize

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


def _short(count: float) -> str:
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f}{unit}"
    return f"{count:.0f}"
