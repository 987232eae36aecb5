"""Compares the loss head with the naive loss, which holds all logits: temporary memory and time with gradients.

python benchmarks/loss_head.py [--vocabs 32768,125952] [--chunks default,1024,512] [--tokens N] [--width D]
    [--topology v5e:2x2] [--markdown FILE]

Both take hidden states and the float32 head; the naive loss is optax's cross-entropy of all logits. Temporary memory is
the compiler's figure for the program of loss and gradients, without inputs, outputs and gradients.

Measured on the machine's accelerator in bfloat16 with 8 x 2,048 tokens of width 2,048; on a CPU in float32 with 512
tokens of width 256. Calls alternate, so that other work on the machine affects all alike. --topology also compiles the
programs at the accelerator's size for a TPU topology: memory, and no time (the compiler's estimate of that is useless:
it can be negative). Prints tables and JSON.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mindllm_jax.files import write_text
from mindllm_jax.hardware.topologies import one_device_mesh, tpu_topology
from mindllm_jax.kernels.linear_cross_entropy import linear_cross_entropy
from mindllm_jax.reporting.tables import Table

LONGEST = 2048
"""Tokens per row."""


class Size(NamedTuple):
    """The number of tokens, the width and the dtype of the products."""

    tokens: int
    width: int
    dtype: Any

    def rows(self) -> tuple[int, int]:
        """Returns batch and length."""
        length = min(LONGEST, self.tokens)
        return self.tokens // length, length


ON_ACCELERATOR = Size(16384, 2048, jnp.bfloat16)
ON_CPU = Size(512, 256, jnp.float32)


def naive(hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Computes the loss with all logits at a time."""
    logits = jnp.einsum("btd,dv->btv", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)
    return (optax.softmax_cross_entropy_with_integer_labels(logits, targets) * weights).sum()


def losses(chunks: list[str]) -> Iterator[tuple[str, Callable[..., jax.Array]]]:
    """Yields names and functions: the naive loss first, then ours with each chunk."""
    yield "naive", naive
    for chunk in chunks:
        size = None if chunk == "default" else int(chunk)
        yield f"chunk {chunk}", lambda *arrays, size=size: linear_cross_entropy(*arrays, chunk=size).loss


def program(loss: Callable[..., jax.Array], vocab: int, size: Size, mesh: jax.sharding.Mesh | None = None) -> Any:
    """Compiles loss and gradients for the mesh's device, or this machine's."""
    tokens = size.rows()
    shapes = [
        ((*tokens, size.width), size.dtype),
        ((size.width, vocab), jnp.float32),
        (tokens, jnp.int32),
        (tokens, jnp.float32),
    ]
    placed = None if mesh is None else jax.NamedSharding(mesh, jax.P())
    arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=placed) for shape, dtype in shapes]
    # The mesh names the device, where it is not this machine's.
    with nullcontext() if mesh is None else jax.set_mesh(mesh):
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*arrays).compile()


def seconds(programs: dict[str, Any], vocab: int, size: Size) -> dict[str, float]:
    """Returns the median time of a call of each, over five rounds after a warm-up."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (*size.rows(), size.width), size.dtype)
    head = jax.random.normal(keys[1], (size.width, vocab)) / size.width**0.5
    targets = jax.random.randint(keys[2], size.rows(), 0, vocab)
    arrays = (hidden, head, targets, jnp.ones(size.rows()))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(6):
        for name, compiled in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(*arrays))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def main() -> None:
    """Compiles, measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabs", default="32768,125952")
    parser.add_argument("--chunks", default="default,1024,512")
    parser.add_argument("--tokens", type=int, help="instead of the default")
    parser.add_argument("--width", type=int, help="instead of the default")
    parser.add_argument("--topology", help="TPU to compile for, as v5e:2x2")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()
    vocabs, chunks = list(map(int, arguments.vocabs.split(","))), arguments.chunks.split(",")

    def sized(size: Size) -> Size:
        return Size(arguments.tokens or size.tokens, arguments.width or size.width, size.dtype)

    columns = ("vocabulary", "loss", "temporary GiB", "of naive", "ms", "of naive's time")
    command = shlex.join(["python", "benchmarks/loss_head.py", *sys.argv[1:]])
    text = f"# The loss head\n\nGenerated by `{command}`, whose --help explains the columns; jax {jax.__version__}.\n\n"
    found: list[dict[str, Any]] = []
    meshes: dict[str, jax.sharding.Mesh | None] = {jax.local_devices()[0].device_kind: None}
    if arguments.topology:
        meshes[arguments.topology] = one_device_mesh(tpu_topology(arguments.topology))
    for device, mesh in meshes.items():
        size = sized(ON_CPU if mesh is None and jax.default_backend() == "cpu" else ON_ACCELERATOR)
        how = "measured" if mesh is None else "compiled and not run"
        caption = f"{device}, {how}: {size.tokens:,} tokens of width {size.width:,}, {jnp.dtype(size.dtype).name}."
        rows: list[tuple[Any, ...]] = []
        for vocab in vocabs:
            programs = {name: program(loss, vocab, size, mesh) for name, loss in losses(chunks)}
            memory = {name: x.memory_analysis().temp_size_in_bytes / 2**30 for name, x in programs.items()}
            times = seconds(programs, vocab, size) if mesh is None else {}
            for name in programs:
                ratios = memory[name] / memory["naive"], times[name] / times["naive"] if times else None
                rows.append((vocab, name, memory[name], ratios[0], times[name] * 1e3 if times else None, ratios[1]))
                print(device, *rows[-1], file=sys.stderr)
            if arguments.markdown:
                write_text(arguments.markdown, f"{text}{Table(columns, rows, caption).markdown()}")
        text += f"{Table(columns, rows, caption).markdown()}\n"
        found += [{"device": device, **dict(zip(columns, row, strict=True))} for row in rows]
    print(text)
    print(json.dumps({"lines": found}))


if __name__ == "__main__":
    main()
