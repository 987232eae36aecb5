"""`Model.compute_dtype = 'fastest'` decided for a processor: a training step in both dtypes, measured once."""

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
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.remembered import FILE, Measured, key, recall, remember
from mindllm_jax.training.run_spec import Loop, run_spec

WORTH = 1.05
"""So many times as fast as float32 bfloat16 has to be: less is within the noise, and not worth its rounding."""

_HINT = "set JAX_COMPILATION_CACHE_DIR to a folder that can be written"


def decided(model: Model, *, measuring: bool = True) -> Model:
    """Returns the model with its compute dtype decided where that is 'fastest' and runs on a CPU, else as it is.

    Which dtype is faster depends on the processor's instructions (AVX-512 bf16, AMX). Process 0 looks into the file
    beside the compiled programs, or measures and writes it, and says in one line on stderr which it is and why; all
    processes, which have to call this together, take its answer.

    measuring: without it nothing is measured or written, and what is not remembered is float32.
    """
    if model.compute_dtype != "fastest" or jax.default_backend() != "cpu":
        return model
    leader, folder = jax.process_index() == 0, cache_folder()
    path = folder and folder / FILE
    # By itself, before the long part: processes wait for each other as long as it takes, but 30 s to connect at first.
    dtype = from_first(_remembered(path) if leader else "")
    if not dtype and measuring:
        dtype = from_first(together(lambda: _measured(path) if leader else ""))
    if not dtype and leader:
        _say("float32, as long as nothing is remembered of this machine: a run measures it against bfloat16 once")
    return replace(model, compute_dtype=dtype or "float32")


def measure(model: Model, rows: int, pairs: int) -> Measured:
    """Median seconds of a real training step in each dtype, taken in turns on one device of this process."""
    steps = {dtype: _step(replace(model, compute_dtype=dtype), rows) for dtype in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {dtype: [] for dtype in steps}
    for turn in range(1 + pairs):
        for dtype, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first warms up
                seconds[dtype].append(time.perf_counter() - start)
    today = datetime.date.today().isoformat()
    return Measured(**{dtype: statistics.median(taken) for dtype, taken in seconds.items()}, date=today)


def _step(model: Model, rows: int) -> Callable[[], None]:
    """A compiled training step on rows of random tokens; it returns when it is done.

    Every parameter is the same number: a step takes as long, and drawing them would have to be compiled.
    """
    length = model.max_seq_len
    run = run_spec(model, Loop(global_batch_size=rows), Optimizer(), MeshAxes(), length, jax.local_devices()[:1])
    compiled = run.compiled_step()
    state = jax.tree.map(
        lambda leaf: jax.device_put(np.full(leaf.shape, 0.01, leaf.dtype), leaf.sharding), run.abstract_state
    )
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (rows, length + 1), dtype=np.int32)
    whole = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), whole.shape)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], whole.astype(np.float32), whole, positions)
    placed = jax.device_put(batch, run.abstract_model.sharding.named("batch", "length"))

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, placed))

    return step


def _remembered(path: Path | None) -> str:
    """The answer that the file has for this machine, "" where it has none."""
    if path is None:
        return ""
    try:
        found = recall(path).get(key())
    except OSError:  # writing it will tell why, or replace it
        return ""
    except ValueError as error:
        _say(f"{error}: not believed; the next measurement replaces the file")
        return ""
    return _answer(found, f"remembered from {found.date}; {path}") if found else ""


def _measured(path: Path | None) -> str:
    """The answer after a measurement of the default model, which is one that laptops train."""
    measured = measure(Model(max_seq_len=256), rows=2, pairs=7)
    if path is None:
        return _answer(measured, f"measured, and not remembered: {_HINT}")
    try:
        remember(path, key(), measured)
    except OSError as error:
        return _answer(measured, f"measured, and not remembered: {path}: {error.strerror or error}; {_HINT}")
    return _answer(measured, f"measured once; {path}")


def _answer(measured: Measured, how: str) -> str:
    gain = measured.float32 / measured.bfloat16
    if gain >= WORTH:
        _say(f"bfloat16, {gain:.2f} times as fast as float32 here ({how})")
        return "bfloat16"
    least = f", and {WORTH} would be worth it" if gain > 1 else ""
    _say(f"float32; bfloat16 is {gain:.2f} times as fast here{least} ({how})")
    return "float32"


def _say(what: str) -> None:
    print(f"compute dtype: {what}", file=sys.stderr)
