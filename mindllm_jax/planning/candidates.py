"""Meshes, rematerialisation and micro-batches for a run, ranked by arithmetic before anything is compiled."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import shard_count
from mindllm_jax.planning.hlo import Collective
from mindllm_jax.planning.links import Grid, group_along, spans
from mindllm_jax.planning.roofline import StepTime, step_time
from mindllm_jax.training.memory import block_weights, matmul_flops, memory_parts
from mindllm_jax.training.run_spec import Loop

TRAFFIC = 190
"""How often a block moves a token's width through memory in a step: in steps of the 3B preset compiled for v5p."""


@dataclass(frozen=True)
class Candidate:
    """One way to run, with estimates for its fullest device."""

    sizes: Mapping[str, int]  # of the mesh
    grad_accum_steps: int
    remat: str
    memory: Mapping[str, float]  # bytes by part
    time: StepTime

    @property
    def mesh(self) -> MeshAxes:
        """As a setting."""
        return MeshAxes(**self.sizes)

    def axes(self) -> str:
        """For people: the axes that are split."""
        return ", ".join(f"{axis} {size}" for axis, size in self.sizes.items() if size > 1) or "one device"

    def name(self) -> str:
        """For people: the axes that are split, the micro-batches and the policy."""
        return f"{self.axes()}; {self.grad_accum_steps} micro-batches; remat {self.remat}"


def candidates(model: Model, loop: Loop, length: int, devices: Sequence[Any], chip: Chip) -> list[Candidate]:
    """All ways to run steps of `loop` over the devices, the fastest first; also those with too little memory.

    Raises ValueError when the batch or the model's sizes can be split in no way.
    """
    found = [
        estimate(dataclasses.replace(model, remat=remat), loop, length, sizes, grad_accum_steps, devices, chip)
        for sizes in _meshes(model, length, devices, chip)
        for grad_accum_steps in (1, 2, 4, 8, 16, 32)
        if loop.global_batch_size % (grad_accum_steps * shard_count("batch", sizes)) == 0
        for remat in ("none", "dots", "attention", "full")
    ]
    if not found:
        meshes = _meshes(model, length, devices, chip)
        multiple = min((shard_count("batch", sizes) for sizes in meshes), default=len(devices))
        raise ValueError(
            f"no mesh over {len(devices)} devices splits Loop.global_batch_size = {loop.global_batch_size} and the "
            f"model's sizes: take a multiple of {multiple} rows"
        )
    return sorted(found, key=lambda candidate: (candidate.time.total, candidate.time.beside))


def _meshes(model: Model, length: int, devices: Sequence[Any], chip: Chip) -> Iterator[dict[str, int]]:
    """Sizes of meshes that the model's sizes allow."""
    count = len(devices)
    slices = len({getattr(device, "slice_index", None) for device in devices})
    slices_choices = {slices} if chip.dimensions else {1, len({device.process_index for device in devices})}
    splits = [size for size in range(1, count + 1) if count % size == 0]
    for slices, fsdp, context, tensor in itertools.product(slices_choices, splits, (1, 2, 4, 8, 16), (1, 2, 4, 8)):
        inner = fsdp * context * tensor * slices
        if (
            count % inner == 0
            and model.width % (fsdp * context) == 0
            and math.gcd(model.heads, model.key_heads, model.mlp_dim, model.vocab_size) % tensor == 0
            # Shorter chunks would leave attention's tiles half empty.
            and (context == 1 or length % (2 * context * 1024) == 0)
        ):
            yield {
                "slices": slices,
                "data": count // inner,
                "fsdp": fsdp,
                "context": context,
                "tensor": tensor,
            }


def estimate(
    model: Model,
    loop: Loop,
    length: int,
    sizes: dict[str, int],
    grad_accum_steps: int,
    devices: Sequence[Any],
    chip: Chip,
) -> Candidate:
    """One way to run, by arithmetic. sizes: of the mesh, of every axis."""
    split = shard_count("width", sizes) * shard_count("vocab", sizes)
    blocks, tables = model.layers * block_weights(model), model.width * model.vocab_size * (1 if model.tied else 2)
    held = 4 * (blocks + tables) / split
    memory = memory_parts(
        model,
        sizes,
        rows=loop.global_batch_size,
        length=length,
        grad_accum_steps=grad_accum_steps,
        params=held,
        moments=2 * held,
    )
    tokens = loop.global_batch_size * length
    own = tokens * sizes["tensor"] // len(devices)
    traffic = _traffic(model, sizes, grad_accum_steps, own, held)
    grid = _grid(tuple(sizes.items()), tuple(devices), chip)
    collectives = _collectives(model, sizes, grad_accum_steps, own, loop, grid, chip)
    time = step_time(matmul_flops(model, tokens, length) / len(devices), traffic, collectives, grid, chip)
    return Candidate(sizes, grad_accum_steps, model.remat, memory, time)


def _traffic(model: Model, sizes: dict[str, int], grad_accum_steps: int, tokens: int, held: float) -> float:
    """Bytes through the memory of a device with `tokens` a step: blocks, their weights, the loss head, the update."""
    size, tensor = model.dtype.itemsize, sizes["tensor"]
    micro = tokens / grad_accum_steps
    columns, chunks = model.vocab_size / tensor, math.ceil(micro / max(model.width, 256))
    # A chunk reads the head twice, and reads and writes its float32 gradient; logits and theirs go to and fro.
    head = chunks * (2 * size + 2 * 4) * model.width * columns + 5 * 4 * micro * columns
    weights = 4 * size * model.layers * block_weights(model) / tensor  # written and read, forward and backward
    sums = 3 * held if grad_accum_steps > 1 else 0.0
    blocks = size * TRAFFIC * model.width * model.layers * tokens / tensor
    return blocks + grad_accum_steps * (head + weights + sums) + 7 * held


@functools.lru_cache(maxsize=1024)
def _grid(sizes: tuple[tuple[str, int], ...], devices: tuple[Any, ...], chip: Chip) -> Grid:
    return Grid.of(list(MeshAxes(**dict(sizes)).build(devices).devices.flat), chip)


def _collectives(
    model: Model, sizes: dict[str, int], grad_accum_steps: int, tokens: int, loop: Loop, grid: Grid, chip: Chip
) -> list[Collective]:
    """What fully sharded, tensor and context parallel training exchanges in a step, with `tokens` a device."""
    axes, shape = list(sizes), list(sizes.values())
    tensor, copies, width = sizes["tensor"], ("slices", "data"), ("fsdp", "context")
    overlapped = not chip.dimensions or any("async" in option for option in loop.compiler_options)
    block, gradient = (dtype.itemsize * block_weights(model) / tensor for dtype in (model.dtype, model.gradient_dtype))
    head = model.width * model.vocab_size / tensor
    micro, each = tokens / grad_accum_steps, model.layers * grad_accum_steps
    again, attention_again = model.remat in ("full", "attention"), model.remat in ("full", "dots")
    stream = model.dtype.itemsize * micro * model.width
    keys = 2 * micro * sizes["context"] * model.key_heads * model.head_dim / tensor
    plan = [
        ("all-gather", width, block, 2 * each),
        ("reduce-scatter", width, gradient, each),
        ("all-gather", width, model.dtype.itemsize * head, grad_accum_steps),
        ("reduce-scatter", width, 4 * head, grad_accum_steps),
        ("all-to-all", width, stream, 2 * grad_accum_steps),
        ("all-reduce", copies, gradient / shard_count("width", sizes), each),
        ("all-reduce", copies, 2 * 4 * head / shard_count("width", sizes), grad_accum_steps),
        ("all-reduce", ("tensor",), stream, (4 + 2 * again) * each),
        ("all-gather", ("context",), model.dtype.itemsize * keys, (2 + attention_again) * each),
        ("reduce-scatter", ("context",), 4 * keys, each),
    ]

    found = []
    for kind, names, size, times in plan:
        group = group_along(shape, [axes.index(name) for name in names])
        # libtpu makes a sum of the whole out of both over all three axes of a torus, and out of a scattering of
        # what is no whole tile of bfloat16 for each device.
        whole = chip.dimensions == 3 and kind != "all-to-all" and spans([grid.devices[i] for i in group]) == 3
        ragged = chip.dimensions and kind == "reduce-scatter" and model.width % (16 * len(group))
        if whole or ragged:
            kind = "all-reduce"
        beside = overlapped and (kind == "all-gather" or not chip.dimensions)
        found.append(Collective(kind, size, group, times, beside))
    return found
