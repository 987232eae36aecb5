"""Resolves `Model.compute_dtype = 'fastest'` on a CPU, by one measurement of a training step in both dtypes."""

from __future__ import annotations

import datetime
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.startup import cache_folder
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.rows import Batch
from mindllm_jax.training.dtype_cache import FILE, Measured, add_to_cache, key, read_cache
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, run_spec

WORTH = 1.05
"""The least speed-up of bfloat16 over float32: less is within the noise, and not worth its rounding."""

_HINT = "set JAX_COMPILATION_CACHE_DIR to a writable folder"


def resolve_dtype(model: Model, *, measuring: bool = True) -> Model:
    """Returns the model with `fastest` replaced by the faster compute dtype of this CPU; other models as they are.

    Which dtype is faster depends on the processor's instructions (AVX-512 bf16, AMX). Process 0 reads the cache among
    the compiled programs, or measures and writes it, and prints one line with the dtype and the reason to stderr. All
    processes must call this together; they take its answer.

    measuring: False measures and writes nothing, and takes float32 for a machine without an entry.

    Raises ValueError for float64 where JAX computes it as float32.
    """
    if model.compute_dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError("Model.compute_dtype = 'float64': JAX computes it as float32 unless JAX_ENABLE_X64=1 is set")
    if model.compute_dtype != "fastest" or jax.default_backend() != "cpu":
        return model
    leader, folder = jax.process_index() == 0, cache_folder()
    path = folder and folder / FILE
    # Before the measurement: the first collective times out after 30 s, later ones wait as long as it takes.
    dtype = from_first(_read(path) if leader else "")
    if not dtype and measuring:
        dtype = from_first(together(lambda: _measure(path) if leader else ""))
    if not dtype and leader:
        _log("float32, because this machine was not measured; a run measures float32 and bfloat16 once")
    return replace(model, compute_dtype=dtype or "float32")


def measure(model: Model, rows: int, pairs: int) -> Measured:
    """Returns the median seconds of a training step in each dtype, in alternation, on one device of this process."""
    steps = {dtype: _step(replace(model, compute_dtype=dtype), rows) for dtype in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {dtype: [] for dtype in steps}
    for turn in range(1 + pairs):
        for dtype, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first warms up
                seconds[dtype].append(time.perf_counter() - start)
    today = datetime.date.today().isoformat()
    return Measured(**{dtype: statistics.median(times) for dtype, times in seconds.items()}, date=today)


def _step(model: Model, rows: int) -> Callable[[], None]:
    """Compiles a training step on rows of random tokens; the returned function blocks until it is done.

    All parameters are equal: a step takes as long, and random ones would have to be compiled.
    """
    length = model.max_seq_len
    run = run_spec(model, Loop(global_batch_size=rows), Optimizer(), MeshAxes(), length, jax.local_devices()[:1])
    compiled = run.compiled_step()
    state = jax.tree.map(
        lambda leaf: jax.device_put(np.full(leaf.shape, 0.01, leaf.dtype), leaf.sharding), run.abstract_state
    )
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (rows, length + 1), dtype=np.int32)
    segment_ids = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), segment_ids.shape)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], segment_ids.astype(np.float32), segment_ids, positions)
    placed = jax.device_put(batch, run.abstract_model.sharding.named("batch", "length"))

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, placed))

    return step


def _read(path: Path | None) -> str:
    """Returns the dtype of this machine's entry, "" without one."""
    if path is None:
        return ""
    try:
        entry = read_cache(path).get(key())
    except OSError:  # writing it will report the reason, or replace it
        return ""
    except ValueError as error:
        _log(f"{error}: ignored; the next measurement replaces the file")
        return ""
    return _choose(entry, f"measured on {entry.date}; {path}") if entry else ""


def _measure(path: Path | None) -> str:
    """Returns the dtype by a measurement of the default model, which suits laptops, and adds it to the cache."""
    measured = measure(Model(max_seq_len=256), rows=2, pairs=7)
    if path is None:
        return _choose(measured, f"measured, not cached: {_HINT}")
    try:
        add_to_cache(path, key(), measured)
    except OSError as error:
        return _choose(measured, f"measured, not cached: {path}: {error.strerror or error}; {_HINT}")
    return _choose(measured, f"measured once; {path}")


def _choose(measured: Measured, origin: str) -> str:
    gain = measured.float32 / measured.bfloat16
    if gain >= WORTH:
        _log(f"bfloat16, {gain:.2f} times as fast as float32 on this machine ({origin})")
        return "bfloat16"
    least = f", less than {WORTH}" if gain > 1 else ""
    _log(f"float32; bfloat16 is {gain:.2f} times as fast on this machine{least} ({origin})")
    return "float32"


def _log(text: str) -> None:
    print(f"compute dtype: {text}", file=sys.stderr)
