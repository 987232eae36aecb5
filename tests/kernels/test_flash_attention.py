"""Numerics of every implementation of attention, against float64."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu
from numerics import SEED, assert_as_exact, relative_error

from mindllm_jax.kernels.flash_attention import (
    IMPLEMENTATIONS,
    flash_attention,
    tpu,
    triton,
    xla,
)

NAMES = ("out", "lse", "dq", "dk", "dv")
ON_GPU = os.environ["JAX_PLATFORMS"] != "cpu"


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
    "packed, window, cap": Case(kv_heads=2, packed=True, options={"window": 50, "logit_cap": 2.0}),
    "three blocks": Case(batch=1, heads=2),
    "decode": Case(batch=17, heads=8, queries=1, keys=200, packed=True, options={"q_offset": 150}),
    "scaled": Case(heads=2, kv_heads=2, options={"window": 150, "scale": 0.3}),
}
SPECIAL = [
    ("packed, window, cap", "float32"),
    ("three blocks", "bfloat16"),
    ("decode", "float32"),
    ("decode", "bfloat16"),
    ("scaled", "float32"),
]

# The grid: every combination of these, and a set of them in which any two values of different factors meet.
MASKS: dict[str, dict[str, Any]] = {
    "causal": {},
    "full": {"options": {"causal": False}},
    "window": {"options": {"window": 50}},
    "packed": {"packed": True},
    "offset": {"options": {"q_offset": 30}},
    "empty rows": {"options": {"q_offset": -90}},
}
LENGTHS = {"whole tiles": (256, 256), "ragged": (130, 300)}
HEADS = {"1 a key head": (2, 2), "4 a key head": (4, 1), "16 a key head": (16, 1)}
HEAD_DIMS = (64, 80, 128, 256)
DTYPES = ("float32", "bfloat16")
Point = tuple[str, str, str, int, str]
GRID: list[Point] = list(itertools.product(MASKS, LENGTHS, HEADS, HEAD_DIMS, DTYPES))


def pairwise(points: Sequence[Point]) -> list[Point]:
    """Few points that hold every pair of values that all of them hold: greedily, most new pairs first."""
    pairs = {point: set(itertools.combinations(enumerate(point), 2)) for point in points}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(points, key=lambda point: len(pairs[point] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen


def named(point: Point) -> tuple[str, str]:
    """The case and the dtype of a point."""
    *rest, dtype = point
    return ", ".join(map(str, rest)), dtype


def case_of(point: Point) -> Case:
    mask, lengths, heads, head_dim, _ = point
    (queries, keys), (q_heads, kv_heads) = LENGTHS[lengths], HEADS[heads]
    batch = 2 if mask == "packed" else 1  # of packed rows the last is all padding
    return Case(queries, keys, q_heads, kv_heads, head_dim, batch, **MASKS[mask])


CASES |= {named(point)[0]: case_of(point) for point in GRID}


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
    scores = np.einsum("btnh,bsnh->bnts", q, k, optimize=True) * scale
    slope = 1.0
    if cap is not None:
        scores = cap * np.tanh(scores / cap)
        slope = 1 - (scores / cap) ** 2
    weights = np.exp(scores) * allowed
    total = weights.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.log(total[..., 0]).transpose(0, 2, 1)
    weights /= np.where(total == 0, 1, total)
    out = np.einsum("bnts,bsnh->btnh", weights, v, optimize=True)

    d_weights = np.einsum("btnh,bsnh->bnts", d_out, v, optimize=True)
    shift = d_lse.transpose(0, 2, 1)[..., None] - (weights * d_weights).sum(-1, keepdims=True)
    d_scores = weights * (d_weights + shift) * slope * scale
    dq = np.einsum("bnts,bsnh->btnh", d_scores, k, optimize=True)
    dk = np.einsum("bnts,btnh->bsnh", d_scores, q, optimize=True)
    dv = np.einsum("bnts,btnh->bsnh", weights, d_out, optimize=True)
    dk, dv = (x.reshape(*x.shape[:2], -1, group, x.shape[-1]).sum(3) for x in (dk, dv))
    return out, lse, dq, dk, dv


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

    @jax.jit  # all values are arguments, so that another seed is no other program
    def run(
        q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array, d_lse: jax.Array, ids: Any, q_offset: Any
    ) -> Any:
        def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            return flash_attention(
                q, k, v, segment_ids=ids, q_offset=q_offset, return_lse=True, implementation=implementation, **options
            )

        outputs, vjp = jax.vjp(attend, q, k, v)
        return *outputs, *vjp((d_out, d_lse))

    arrays, again = (run(q, k, v, d_out, d_lse, ids, jnp.int32(q_offset)) for _ in range(2))
    if not ON_GPU or implementation == "triton":  # XLA's own products may sum atomically there
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
        found[name] = relative_error(got[finite], expected[finite])
    return found


LONG, SLOW = pytest.mark.long, pytest.mark.slow
COVERING = pairwise(GRID)
REST = [point for point in GRID if point not in COVERING]


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *SPECIAL,
        *(pytest.param(*named(point), marks=LONG) for point in COVERING),
        *(pytest.param(*named(point), marks=SLOW) for point in REST),
    ],
)
def test_errors_are_those_of_the_plain_formula(case: str, dtype: str) -> None:
    reference = errors(case, dtype, "reference")
    assert max(reference.values()) < {"float32": 2e-6, "bfloat16": 2e-2}[dtype], reference
    assert_as_exact(errors(case, dtype, "xla"), reference, dtype)


def allow_anywhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lets an implementation be asked for on hardware that is not its own, without what would run it there."""
    entry = IMPLEMENTATIONS[name]
    anywhere = dataclasses.replace(entry.capabilities, platforms=None, requires=None)
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


def mostly_slow(cases: Sequence[tuple[str, str]], *, normal: int) -> list[Any]:
    """The first few in normal runs: a case takes an interpreter many times as long as XLA takes to compile it."""
    return [*cases[:normal], *(pytest.param(*case, marks=SLOW) for case in cases[normal:])]


@pytest.mark.long
@pytest.mark.parametrize(("case", "dtype"), mostly_slow([*SPECIAL, *map(named, COVERING)], normal=2))
@pytest.mark.usefixtures("tpu_interpreter")
def test_tpu_kernels_have_the_same_errors(case: str, dtype: str) -> None:
    assert_as_exact(errors(case, dtype, "tpu"), errors(case, dtype, "reference"), dtype)


@pytest.fixture
def triton_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU they run in Triton's interpreter on torch's CPU tensors, with poisoned outputs; float32 only."""
    if ON_GPU:
        return
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


OFFSET = ("offset, ragged, 4 a key head, 64", "float32")
IN_FLOAT32 = [
    OFFSET,
    *(case for case in SPECIAL if case[1] == "float32"),
    *map(named, pairwise([point for point in GRID if point[-1] == "float32"])),
]


ON_A_GPU = [*SPECIAL, *map(named, COVERING)]


@pytest.mark.long
@pytest.mark.parametrize(("case", "dtype"), ON_A_GPU if ON_GPU else mostly_slow(IN_FLOAT32, normal=2))
@pytest.mark.usefixtures("triton_kernels")
def test_triton_kernels_have_the_same_errors(case: str, dtype: str, record_property: Callable[..., None]) -> None:
    found, reference = errors(case, dtype, "triton"), errors(case, dtype, "reference")
    record_property("errors", json.dumps({"triton": found, "reference": reference}))
    assert_as_exact(found, reference, dtype)


def test_larger_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: several rows, and key tiles of several blocks of which the last reaches over the end."""
    monkeypatch.setattr(xla, "tile_sizes", lambda *_: xla.Tile(rows=2, queries=128, keys=256))
    case = "packed, window, cap"
    assert_as_exact(errors.__wrapped__(case, "float32", "xla"), errors(case, "float32", "reference"), "float32")
