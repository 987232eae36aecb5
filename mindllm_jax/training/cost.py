"""Arithmetic of a run before it is compiled: parameters, FLOPs, memory by part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mindllm_jax.hardware.peak_rates import USABLE, chip, runtime_memory
from mindllm_jax.model.config import Model
from mindllm_jax.model.nf4 import NF4
from mindllm_jax.parallel.sharding import MATRIX_AXES, mesh_settings, token_shards
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.memory import block_weights, memory_parts, remat_choices, visible_keys

FLOPS_FORMULA = (
    "3 x (2 x weights in products + 4 L N H S) FLOPs/token; a causal query sees S = (T + 1) / 2 keys on average, "
    "S = W - W (W - 1) / 2T in a window"
)


def flops_per_token(model: Model, length: int, *, frozen: bool = False) -> float:
    """Returns the training FLOPs per token of rows of `length` tokens: forward, and twice that backward.

    Recomputation is not counted, packing not discounted. Products with weights cost 2 FLOPs per weight. Attention's two
    products cost 4 N H S per token over S visible keys, whose mean is `memory.visible_keys`. frozen: weights get no
    gradients, as in LoRA, whose adapters' own products are not counted.
    """
    weights = model.layers * block_weights(model) + model.width * model.vocab_size
    attention = 4 * model.layers * model.heads * model.head_dim * visible_keys(model, length)
    return (2 if frozen else 3) * 2 * weights + 3 * attention


@dataclass(frozen=True)
class Cost:
    """The arithmetic of one run on one mesh. Bytes are those of the fullest device."""

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
    runtime_memory: float | None = None  # bytes of a device that a step may take, where the runtime reports them
    frozen: int = 0  # of the parameters, those that are not trained

    @property
    def tokens(self) -> int:
        """Tokens of the run."""
        return self.steps * self.tokens_per_step

    @property
    def flops(self) -> float:
        """Training FLOPs of the run."""
        return self.tokens * self.flops_per_token

    def utilization(self, tokens_per_second: float) -> float | None:
        """Returns the MFU against the dense bfloat16 peak, or None for a device without a known peak."""
        peak = chip(self.device_kind)
        return None if peak is None else tokens_per_second * self.flops_per_token / (peak.flops * self.devices)

    def capacity(self) -> tuple[float, float] | None:
        """Returns the bytes of a device's memory and those that a step may take, or None where they are not known."""
        if self.runtime_memory is not None:
            return self.runtime_memory, self.runtime_memory
        known = chip(self.device_kind)
        return None if known is None else (known.memory, USABLE * known.memory)

    def warning(self) -> str | None:
        """Returns what to change if a device has too little memory, or None where the run fits or that is not known."""
        capacity, needed = self.capacity(), sum(self.memory.values())
        if capacity is None or needed <= capacity[1]:
            return None
        part = max(self.memory, key=self.memory.__getitem__)
        return (
            f"the run needs about {_gib(needed)} per device and a {self.device_kind} has {_gib(capacity[0])}. The "
            f"largest part is {part}, {_gib(self.memory[part])}: {_remedy(part)}"
        )

    def table(self) -> Table:
        """Returns the table that is printed before anything is compiled."""
        known, capacity = chip(self.device_kind), self.capacity()
        rows = [
            ("parameters", f"{self.parameters:,} ({_short(self.parameters)})"),
            *([("trained parameters", f"{self.parameters - self.frozen:,}")] if self.frozen else []),
            ("tokens/step", f"{self.tokens_per_step:,}"),
            ("micro-batches/step", f"{self.grad_accum_steps}"),
            ("steps", f"{self.steps:,}"),
            (
                "tokens",
                f"{self.tokens:,} ({_short(self.tokens)}), {self.tokens / self.parameters:.1f} tokens per parameter",
            ),
            ("FLOPs/token", f"{self.flops_per_token:.3e}"),
            ("FLOPs of the run", f"{self.flops:.3e}"),
            ("formula", FLOPS_FORMULA.replace("2 x weights", "4/3 x weights") if self.frozen else FLOPS_FORMULA),
            ("devices", f"{self.devices} x {self.device_kind}"),
            ("compute dtype", self.compute_dtype),
            ("peak", f"{known.flops / 1e12:.0f} TFLOP/s dense bfloat16 per device" if known else "not known: no MFU"),
            *((f"memory: {part}", _gib(size)) for part, size in self.memory.items()),
            (
                "memory: sum, per device",
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
    opt_state: Any,
    frozen: Any,
    *,
    rows: int,
    length: int,
    grad_accum_steps: int,
    steps: int,
    mesh: jax.sharding.Mesh,
) -> Cost:
    """Returns the cost of `steps` steps of `rows` x `length` tokens.

    params, opt_state and frozen (see `TrainState`): trees of arrays or ShapeDtypeStructs with shardings.
    """
    sizes: Mapping[str, int] = mesh.shape
    memory = memory_parts(
        model,
        sizes,
        rows=rows,
        length=length,
        grad_accum_steps=grad_accum_steps,
        params=_bytes_on_device(params),
        opt_state=_bytes_on_device(opt_state),
        frozen=_bytes_on_device(frozen),
    )
    tokens = rows * length // (grad_accum_steps * token_shards(sizes))
    trained, fixed = (
        sum(leaf.size for leaf in jax.tree.leaves(part, is_leaf=lambda leaf: isinstance(leaf, NF4)))
        for part in (params, frozen)
    )
    return Cost(
        trained + fixed,
        rows * length,
        grad_accum_steps,
        steps,
        flops_per_token(model, length, frozen=fixed > 0),
        memory,
        remat_choices(model, tokens, length, sizes),
        mesh.devices.flat[0].device_kind,
        model.dtype.name,
        mesh.size,
        runtime_memory(mesh.devices.flat),
        fixed,
    )


def _remedy(part: str) -> str:
    """Returns what makes a part of the memory smaller."""
    if part.startswith("activations"):
        return "take smaller micro-batches (Loop.grad_accum_steps), or keep less (Model.remat = 'full')"
    subject, axes = {
        "loss head": ("the vocabulary", ("vocab",)),
        "gathered parameters": ("the blocks", ("heads", "kv_heads", "mlp_dim")),
    }.get(part.partition(" (")[0], ("the parameters", MATRIX_AXES))
    return f"split {subject} over more devices ({', '.join(mesh_settings(*axes))})"


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
