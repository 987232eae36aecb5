"""Candidate configurations of a run (mesh, rematerialisation, micro-batches), ranked by arithmetic before compiling."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindllm_jax.hardware.peak_rates import Chip
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import RULES, replica_axes, shard_count, token_shards
from mindllm_jax.planning.hlo import Collective
from mindllm_jax.planning.links import Grid, group_along, spans
from mindllm_jax.planning.roofline import StepTime, step_time
from mindllm_jax.planning.state_bytes import StateBytes, state_bytes
from mindllm_jax.training.memory import block_weights, matmul_flops, memory_parts
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop

TRAFFIC = 190
"""How often a block moves a token's width through memory in a step: in steps of the 3B preset compiled for v5p."""


@dataclass(frozen=True)
class Candidate:
    """One configuration, with estimates for its fullest device."""

    sizes: Mapping[str, int]  # of the mesh, by axis
    grad_accum_steps: int
    remat: str
    memory: Mapping[str, float]  # bytes by part
    time: StepTime

    @property
    def mesh(self) -> MeshAxes:
        """The mesh as settings."""
        return MeshAxes(**self.sizes)

    def axes(self) -> str:
        """Describes the axes that are split, as `data 4, fsdp 8`."""
        return ", ".join(f"{axis} {size}" for axis, size in self.sizes.items() if size > 1) or "one device"

    def name(self) -> str:
        """Describes the axes that are split, the micro-batches and the remat policy."""
        return f"{self.axes()}; {self.grad_accum_steps} micro-batches; remat {self.remat}"


def candidates(
    model: Model,
    loop: Loop,
    optimizer: Optimizer,
    length: int,
    devices: Sequence[Any],
    chip: Chip,
) -> list[Candidate]:
    """Returns all candidates for steps of `loop` over the devices, fastest first, those that do not fit included.

    Raises ValueError when no mesh splits the batch and the model's sizes.
    """
    state = state_bytes(model, optimizer, MeshAxes())
    estimates = [
        estimate(dataclasses.replace(model, remat=remat), loop, length, sizes, grad_accum_steps, devices, chip, state)
        for sizes in _meshes(model, length, devices, chip)
        for grad_accum_steps in (1, 2, 4, 8, 16, 32)
        if loop.global_batch_size % (grad_accum_steps * shard_count("batch", sizes)) == 0
        for remat in ("none", "dots", "attention", "full")
    ]
    if not estimates:
        meshes = _meshes(model, length, devices, chip)
        multiple = min((shard_count("batch", sizes) for sizes in meshes), default=len(devices))
        raise ValueError(
            f"no mesh over {len(devices)} devices splits Loop.global_batch_size = {loop.global_batch_size} and the "
            f"model's sizes: take a multiple of {multiple} rows"
        )
    return sorted(estimates, key=lambda candidate: (candidate.time.total, candidate.time.overlapped_comm))


def _meshes(model: Model, length: int, devices: Sequence[Any], chip: Chip) -> Iterator[dict[str, int]]:
    """Yields the sizes of the meshes over all devices that divide the model's sizes and the rows."""
    outer, *inner = dataclasses.fields(MeshAxes)
    slices = len({getattr(device, "slice_index", None) for device in devices})
    nodes = len({device.process_index for device in devices})
    choices: dict[str, Sequence[int]] = {outer.name: [slices] if chip.dimensions else sorted({1, nodes})}
    for axis in inner:
        choices[axis.name] = [0] if axis.default == -1 else _sizes_to_try(axis.name, len(devices))
    widths = {
        "width": model.width,
        "heads": model.heads,
        "kv_heads": model.key_heads,
        "mlp_dim": model.mlp_dim,
        "vocab": model.vocab_size,
    }
    for product in itertools.product(*choices.values()):
        fixed = math.prod(size for size in product if size)
        if len(devices) % fixed:
            continue
        sizes = dict(zip(choices, (size or len(devices) // fixed for size in product), strict=True))
        parts = shard_count("length", sizes)
        if (
            not any(width % shard_count(name, sizes) for name, width in widths.items())
            # Shorter chunks would leave attention's tiles half empty.
            and (parts == 1 or length % (2 * parts * 1024) == 0)
        ):
            yield sizes


def _sizes_to_try(axis: str, devices: int) -> Sequence[int]:
    """Any divisor for an axis that costs nothing but gathering parameters; small powers of 2 for one within rows or
    products."""
    if axis in RULES["batch"]:
        return [size for size in range(1, devices + 1) if devices % size == 0]
    return (1, 2, 4, 8, 16) if axis in RULES["length"] else (1, 2, 4, 8)


def estimate(
    model: Model,
    loop: Loop,
    length: int,
    sizes: dict[str, int],
    grad_accum_steps: int,
    devices: Sequence[Any],
    chip: Chip,
    state: StateBytes,
) -> Candidate:
    """Estimates one configuration by arithmetic. sizes: of every axis of the mesh."""
    params = state.params.on(sizes)
    memory = memory_parts(
        model,
        sizes,
        rows=loop.global_batch_size,
        length=length,
        grad_accum_steps=grad_accum_steps,
        params=params,
        opt_state=state.opt_state.on(sizes),
    )
    tokens = loop.global_batch_size * length
    device_tokens = tokens // token_shards(sizes)
    traffic = _traffic(model, sizes, grad_accum_steps, device_tokens, params)
    grid = _grid(tuple(sizes.items()), tuple(devices), chip)
    collectives = _collectives(model, sizes, grad_accum_steps, device_tokens, loop, grid, chip)
    time = step_time(matmul_flops(model, tokens, length) / len(devices), traffic, collectives, grid, chip)
    return Candidate(sizes, grad_accum_steps, model.remat, memory, time)


def _traffic(model: Model, sizes: dict[str, int], grad_accum_steps: int, tokens: int, params: float) -> float:
    """Bytes per step through the memory of a device with `tokens`: blocks, their weights, the loss head, the update."""
    size = model.dtype.itemsize
    micro = tokens / grad_accum_steps
    columns = model.vocab_size / shard_count("vocab", sizes)
    chunks = math.ceil(micro / max(model.width, 256))
    # A chunk reads the head twice, and reads and writes its float32 gradient; logits and theirs go to and fro.
    head = chunks * (2 * size + 2 * 4) * model.width * columns + 5 * 4 * micro * columns
    weights = 4 * size * model.layers * block_weights(model, sizes)  # written and read, forward and backward
    gradient_sums = 3 * params if grad_accum_steps > 1 else 0.0
    blocks = size * TRAFFIC * model.width * model.layers * tokens / shard_count("mlp_dim", sizes)
    return blocks + grad_accum_steps * (head + weights + gradient_sums) + 7 * params


@functools.lru_cache(maxsize=1024)
def _grid(sizes: tuple[tuple[str, int], ...], devices: tuple[Any, ...], chip: Chip) -> Grid:
    return Grid.of(list(MeshAxes(**dict(sizes)).build(devices).devices.flat), chip)


def _collectives(
    model: Model, sizes: dict[str, int], grad_accum_steps: int, tokens: int, loop: Loop, grid: Grid, chip: Chip
) -> list[Collective]:
    """Returns the collectives of a step with `tokens` per device: of fully sharded, tensor and context parallelism."""
    axes, shape = list(sizes), list(sizes.values())
    width, copies, context = RULES["width"], replica_axes(), RULES["length"]
    gathered = shard_count("width", sizes)
    overlaps = not chip.dimensions or any("async" in option for option in loop.compiler_options)
    block, gradient = (dtype.itemsize * block_weights(model, sizes) for dtype in (model.dtype, model.gradient_dtype))
    head = model.width * model.vocab_size / shard_count("vocab", sizes)
    micro, each = tokens / grad_accum_steps, model.layers * grad_accum_steps
    again, attention_again = model.remat in ("full", "attention"), model.remat in ("full", "dots")
    stream = model.dtype.itemsize * micro * model.width
    key_width = model.key_heads * model.head_dim / shard_count("kv_heads", sizes)
    keys = 2 * micro * shard_count("length", sizes) * key_width
    # Products over heads and over the feed-forward width, forward and backward; over equal axes they count as one.
    summed = Counter[tuple[str, ...]]()
    for name in ("heads", "mlp_dim"):
        summed[RULES[name]] += 2 + again
    collectives = [
        ("all-gather", width, block, 2 * each),
        ("reduce-scatter", width, gradient, each),
        ("all-gather", width, model.dtype.itemsize * head, grad_accum_steps),
        ("reduce-scatter", width, 4 * head, grad_accum_steps),
        ("all-to-all", width, stream, 2 * grad_accum_steps),
        ("all-reduce", copies, gradient / gathered, each),
        ("all-reduce", copies, 2 * 4 * head / gathered, grad_accum_steps),
        *(("all-reduce", names, stream, times * each) for names, times in summed.items()),
        ("all-gather", context, model.dtype.itemsize * keys, (2 + attention_again) * each),
        ("reduce-scatter", context, 4 * keys, each),
    ]

    result = []
    for kind, names, size, times in collectives:
        group = group_along(shape, [axes.index(name) for name in names])
        # libtpu replaces gathers and scatters by all-reduces over all three axes of a torus, and a scatter of less
        # than a tile of bfloat16 per device.
        spans_torus = chip.dimensions == 3 and kind != "all-to-all" and spans([grid.devices[i] for i in group]) == 3
        ragged = chip.dimensions and kind == "reduce-scatter" and model.width % (16 * len(group))
        if spans_torus or ragged:
            kind = "all-reduce"
        overlapped = overlaps and (kind == "all-gather" or not chip.dimensions)
        result.append(Collective(kind, size, group, times, overlapped))
    return result
