"""Numerics of every implementation of attention, and what they promise besides."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, PartitionSpec

from mindllm_jax.kernels.flash_attention import (
    IMPLEMENTATIONS,
    RESIDUAL_NAME,
    block_ranges,
    flash_attention,
    tpu,
    triton,
    xla,
)

SEED = int(os.environ.get("MINDLLM_TEST_SEED", "0"))
STATIC = ("causal", "window", "implementation")
NAMES = ("out", "lse", "dq", "dk", "dv")


@dataclass(frozen=True)
class Case:
    """Shapes and options of a call; by default two and a half blocks of grouped heads."""

    queries: int = 320
    keys: int = 320
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 64
    batch: int = 2
    packed: bool = False
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "causal": Case(),
    "full": Case(queries=200, keys=333, kv_heads=4, head_dim=80, options={"causal": False}),
    "window": Case(heads=2, kv_heads=2, options={"window": 150, "scale": 0.3}),
    "packed": Case(batch=3, heads=16, head_dim=128, queries=200, keys=200, packed=True),
    "packed, window, cap": Case(batch=3, kv_heads=2, packed=True, options={"window": 50, "logit_cap": 2.0}),
    "offset": Case(queries=100, keys=300, options={"q_offset": 129}),
    "fully masked queries": Case(queries=200, keys=160, options={"q_offset": -90}),
    "decode": Case(batch=17, heads=8, queries=1, keys=200, packed=True, options={"q_offset": 150}),
}
IN_BFLOAT16 = ["causal", "packed", "decode"]


def packed_ids(rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    """Rows of documents of mean 60 with some padding at the end, differently in each; the last is all padding."""
    ids = 1 + np.cumsum(rng.random((batch, length)) < 1 / 60, axis=1, dtype=np.int32)
    ids = np.where(np.arange(length) < length - rng.integers(5, 40, (batch, 1)), ids, 0)
    return np.where(np.arange(batch)[:, None] < batch - 1, ids, 0)


def dense(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, d_out: np.ndarray, d_lse: np.ndarray, ids: Any, options: dict[str, Any]
) -> tuple[np.ndarray, ...]:
    """Output, log-sum-exp and gradients in float64, from the formulas, with the whole matrix."""
    length, kv_length, group = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    cap, scale = options.get("logit_cap"), options.get("scale", q.shape[-1] ** -0.5)
    distance = options.get("q_offset", 0) + np.arange(length)[:, None] - np.arange(kv_length)
    allowed = np.ones((1, 1, length, kv_length), bool)
    if options.get("causal", True):
        allowed = allowed & (distance >= 0)
    if "window" in options:
        allowed = allowed & (distance < options["window"])
    if ids is not None:
        allowed = allowed & ((ids[0][:, :, None] == ids[1][:, None]) & (ids[1] != 0)[:, None])[:, None]

    k, v = np.repeat(k, group, axis=2), np.repeat(v, group, axis=2)
    scores = np.einsum("btnh,bsnh->bnts", q, k) * scale
    slope = 1.0
    if cap is not None:
        scores = cap * np.tanh(scores / cap)
        slope = 1 - (scores / cap) ** 2
    weights = np.exp(scores) * allowed
    total = weights.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.log(total[..., 0]).transpose(0, 2, 1)
    weights /= np.where(total == 0, 1, total)
    out = np.einsum("bnts,bsnh->btnh", weights, v)

    d_weights = np.einsum("btnh,bsnh->bnts", d_out, v)
    shift = d_lse.transpose(0, 2, 1)[..., None] - (weights * d_weights).sum(-1, keepdims=True)
    d_scores = weights * (d_weights + shift) * slope * scale
    dq = np.einsum("bnts,bsnh->btnh", d_scores, k)
    dk = np.einsum("bnts,btnh->bsnh", d_scores, q)
    dv = np.einsum("bnts,btnh->bsnh", weights, d_out)
    dk, dv = (x.reshape(*x.shape[:2], -1, group, x.shape[-1]).sum(3) for x in (dk, dv))
    return out, lse, dq, dk, dv


def attended(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> jax.Array:
    out = jax.jit(flash_attention, static_argnames=STATIC)(q, k, v, **options)
    assert isinstance(out, jax.Array)
    return out


@functools.cache
def problem(case: str, dtype: str) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array] | None]:
    """q, k, v, gradients of output and log-sum-exp, and the segment ids of queries and keys."""
    print(f"MINDLLM_TEST_SEED={SEED}")
    shape = CASES[case]
    rng = np.random.default_rng([SEED, *case.encode()])
    q_shape = (shape.batch, shape.queries, shape.heads, shape.head_dim)
    kv_shape = (shape.batch, shape.keys, shape.kv_heads, shape.head_dim)
    arrays = [jnp.asarray(rng.standard_normal(s), dtype) for s in (q_shape, kv_shape, kv_shape, q_shape)]
    d_lse = jnp.asarray(rng.standard_normal(q_shape[:3]), jnp.float32)
    ids = None
    if shape.packed:
        kv_ids = packed_ids(rng, shape.batch, shape.keys)
        offset = shape.options.get("q_offset", 0)
        ids = (jnp.asarray(kv_ids[:, offset : offset + shape.queries]), jnp.asarray(kv_ids))
    return (*arrays, d_lse), ids


def results(case: str, dtype: str, implementation: str) -> list[np.ndarray]:
    """Output, log-sum-exp and the gradients of q, k and v."""
    (q, k, v, d_out, d_lse), ids = problem(case, dtype)
    options = dict(CASES[case].options)
    q_offset = options.pop("q_offset", 0)

    @jax.jit
    def run(q: jax.Array, k: jax.Array, v: jax.Array, q_offset: jax.Array) -> Any:
        def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            return flash_attention(
                q, k, v, segment_ids=ids, q_offset=q_offset, return_lse=True, implementation=implementation, **options
            )

        outputs, vjp = jax.vjp(attend, q, k, v)
        return *outputs, *vjp((d_out, d_lse))

    arrays, again = (run(q, k, v, jnp.int32(q_offset)) for _ in range(2))
    assert all((x == y).all() for x, y in zip(arrays, again, strict=True))
    assert [x.dtype for x in arrays] == [q.dtype, jnp.float32, q.dtype, k.dtype, v.dtype]
    return [np.asarray(x, np.float64) for x in arrays]


@functools.cache
def errors(case: str, dtype: str, implementation: str) -> dict[str, float]:
    """Relative Frobenius errors against float64. Infinities have to be the same ones."""
    arrays, ids = problem(case, dtype)
    numpy_ids = None if ids is None else tuple(np.asarray(x) for x in ids)
    q, k, v, d_out, d_lse = (np.asarray(x, np.float64) for x in arrays)
    truth = dense(q, k, v, d_out, d_lse, numpy_ids, CASES[case].options)
    found = {}
    for name, got, expected in zip(NAMES, results(case, dtype, implementation), truth, strict=True):
        finite = np.isfinite(expected)
        assert (got[~finite] == expected[~finite]).all() and np.isfinite(got[finite]).all(), name
        assert (got[expected == 0] == 0).all(), name  # masked queries and keys: nothing, not nearly nothing
        found[name] = float(np.linalg.norm(got[finite] - expected[finite]) / np.linalg.norm(expected[finite]))
    return found


@pytest.mark.parametrize(
    ("case", "dtype"), [(case, "float32") for case in CASES] + [(case, "bfloat16") for case in IN_BFLOAT16]
)
def test_errors_are_those_of_the_plain_formula(case: str, dtype: str) -> None:
    reference = errors(case, dtype, "reference")
    assert max(reference.values()) < {"float32": 2e-6, "bfloat16": 2e-2}[dtype], reference
    found = errors(case, dtype, "xla")
    assert all(found[x] <= 2 * reference[x] for x in NAMES), (found, reference)


def allow_anywhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lets an implementation be asked for on hardware that is not its own."""
    entry = IMPLEMENTATIONS[name]
    anywhere = dataclasses.replace(entry.capabilities, platforms=None)
    monkeypatch.setitem(IMPLEMENTATIONS, name, dataclasses.replace(entry, capabilities=anywhere))


@pytest.fixture
def tpu_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TPU kernels run in the interpreter, which simulates copies and semaphores, poisons memory and looks for races.

    Tiles are small and spans short, so that a row has several of both.
    """
    allow_anywhere(monkeypatch, "tpu")
    monkeypatch.setattr(tpu, "tile_sizes", lambda *_: tpu.Tile(queries=128, keys=128, span=256))
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2)):
        yield
    # jax 0.12 raises by itself; jax 0.10 only prints.
    assert interpret_pallas_call.races is not None and not interpret_pallas_call.races.races_found


SLOW = pytest.mark.slow
ON_TPU = [
    ("causal", "bfloat16"),
    ("packed, window, cap", "float32"),
    pytest.param("causal", "float32", marks=SLOW),
    pytest.param("full", "float32", marks=SLOW),
    pytest.param("window", "float32", marks=SLOW),
    pytest.param("packed", "float32", marks=SLOW),
    pytest.param("packed", "bfloat16", marks=SLOW),
    pytest.param("offset", "float32", marks=SLOW),
    pytest.param("fully masked queries", "float32", marks=SLOW),
    pytest.param("decode", "bfloat16", marks=SLOW),
]


@pytest.mark.parametrize(("case", "dtype"), ON_TPU)
@pytest.mark.usefixtures("tpu_interpreter")
def test_tpu_kernels_have_the_same_errors(case: str, dtype: str) -> None:
    reference, found = errors(case, dtype, "reference"), errors(case, dtype, "tpu")
    assert all(found[x] <= 2 * reference[x] for x in NAMES), (found, reference)


@pytest.fixture
def triton_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton kernels run in Triton's interpreter on torch's CPU tensors, with poisoned outputs; float32 only."""
    pytest.importorskip("triton", reason="triton is not installed")
    torch = pytest.importorskip("torch", reason="needs PyTorch's CPU build")
    assert os.environ["TRITON_INTERPRET"] == "1"  # by tests/conftest.py: it is read when Triton is imported

    def run(launch: triton.Launch) -> Any:
        from mindllm_jax.kernels.flash_attention import triton_kernels

        def in_torch(*arrays: Any) -> tuple[np.ndarray, ...]:
            tensors = [torch.from_numpy(np.array(x)) for x in arrays]
            outputs = [torch.full(x.shape, math.nan) for x in launch.outputs]
            kernel = getattr(triton_kernels, launch.kernel)
            kernel[launch.grid](*tensors, *launch.scalars, *outputs, **launch.constants)
            return tuple(x.numpy() for x in outputs)

        return jax.pure_callback(in_torch, launch.outputs, *launch.arrays)

    allow_anywhere(monkeypatch, "triton")
    monkeypatch.setattr(triton, "_run", run)


ON_TRITON = ["offset", "packed, window, cap", *(pytest.param(case, marks=SLOW) for case in CASES)]


@pytest.mark.parametrize("case", ON_TRITON)
@pytest.mark.usefixtures("triton_interpreter")
def test_triton_kernels_have_the_same_errors(case: str) -> None:
    reference, found = errors(case, "float32", "reference"), errors(case, "float32", "triton")
    assert all(found[x] <= 2 * reference[x] for x in NAMES), (found, reference)


def test_larger_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: several rows, and key tiles of several blocks of which the last reaches over the end."""
    monkeypatch.setattr(xla, "tile_sizes", lambda *_: xla.Tile(rows=3, queries=128, keys=256))
    case = "packed, window, cap"
    reference, found = errors(case, "float32", "reference"), errors.__wrapped__(case, "float32", "xla")
    assert all(found[x] <= 2 * reference[x] for x in NAMES), (found, reference)


def test_skipped_tiles_are_not_read() -> None:
    """Values that no query may see are NaN, except in tiles that some query has to visit: 0 x NaN would show."""
    rng = np.random.default_rng(SEED)
    q, k, v = (rng.standard_normal((1, 512, 2, 16), dtype=np.float32) for _ in range(3))
    ids = np.repeat([[1, 2, 3, 4]], 128, axis=1)
    for options, seen in (
        ({"q_offset": -256}, slice(0, 256)),
        ({"window": 64, "q_offset": 320}, slice(256, 512)),
        ({"segment_ids": (jnp.asarray(ids[:, 128:256]), jnp.asarray(ids)), "causal": False}, slice(128, 256)),
    ):
        poisoned = np.full_like(v, np.nan)
        poisoned[:, seen] = v[:, seen]
        length = 128 if "segment_ids" in options else 512
        arrays = (jnp.asarray(x) for x in (q[:, :length], k, poisoned))
        assert np.isfinite(attended(*arrays, implementation="xla", **options)).all(), options


def test_block_ranges_are_used_and_change_nothing() -> None:
    q = jnp.asarray(np.random.default_rng(SEED).standard_normal((1, 256, 1, 16)), jnp.float32)
    ids = jnp.repeat(jnp.array([[1, 2]]), 128, axis=1)
    ranges = block_ranges(ids)
    for name in ("reference", "xla"):
        attend = functools.partial(attended, q, q, q, segment_ids=ids, implementation=name)
        assert (attend(block_ranges=ranges) == attend()).all()
    nothing = jax.tree.map(jnp.zeros_like, ranges)
    assert (attended(q, q, q, segment_ids=ids, block_ranges=nothing, implementation="xla") == 0).all()


def test_no_matrix_of_scores() -> None:
    """At 4,096 tokens nothing that the compiled gradient holds has as many elements as one head's scores."""
    length = 4096
    x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, ids: jax.Array) -> jax.Array:
        return attended(q, k, v, segment_ids=ids, implementation="xla").sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x, ids).compile()
    sizes = [
        math.prod(map(int, shape.split(","))) for shape in re.findall(r"\w\d+\[([\d,]+)\]", compiled.as_text() or "")
    ]
    assert sizes and max(sizes) < length**2 / 8
    memory = compiled.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < length**2 / 2


def test_remat_keeps_outputs_by_name() -> None:
    q = jnp.ones((1, 8, 2, 16))

    def exponentials(policy: Any) -> int:
        @functools.partial(jax.checkpoint, policy=policy)
        def layer(q: jax.Array) -> jax.Array:
            return jnp.sin(attended(q, q, q, implementation="xla")).sum()

        return str(jax.make_jaxpr(jax.grad(layer))(q)).count("= exp ")

    policies = jax.checkpoint_policies
    kept = exponentials(policies.save_only_these_names(RESIDUAL_NAME))
    again = exponentials(policies.nothing_saveable)
    assert kept < again == exponentials(policies.save_only_these_names("another name"))


def test_sharded_equals_whole() -> None:
    rng = np.random.default_rng(SEED)
    q, k, v = (jnp.asarray(rng.standard_normal((4, 64, heads, 16)), jnp.float32) for heads in (8, 4, 4))
    ids = jnp.asarray(np.sort(rng.integers(0, 4, (4, 64)), axis=1), jnp.int32)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, offset: jax.Array, partition: Any = None) -> Any:
        def outputs(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            return flash_attention(q, k, v, segment_ids=ids, q_offset=offset, partition=partition, return_lse=True)

        (out, lse), vjp = jax.vjp(outputs, q, k, v)
        return out, *vjp((jnp.cos(out), jnp.where(jnp.isfinite(lse), lse, 0.0)))

    whole = jax.jit(attend)(q, k, v, jnp.int32(3))
    with jax.set_mesh(mesh):
        spec = PartitionSpec(("data", "fsdp"), None, "tensor", None)
        sharded = jax.jit(functools.partial(attend, partition=spec))(q, k, v, jnp.int32(3))
    assert sharded[0].sharding.shard_shape(q.shape) == (1, 64, 4, 16)
    for got, expected in zip(sharded, whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
