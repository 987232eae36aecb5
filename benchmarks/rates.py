"""What this machine's accelerator reaches: a matrix product in bfloat16 and float32, and a copy within its memory.

python benchmarks/rates.py [--here]

Beside them stand the published peaks (mindllm_jax/hardware/peak_rates.py). All numbers are random: on zeros and ones a
GPU needs less power and is faster than it will be in use. Without a GPU or TPU nothing is measured, unless --here asks
for this machine. Prints a table and JSON, with driver, versions and commit.
"""

import argparse
import json
import sys

from attention_calls import matrix_product_rate, seconds


def copy_rate(size: int) -> float:
    """Bytes a second, read and written, of an elementwise pass over an array of `size` bytes."""
    import jax
    import jax.numpy as jnp

    x = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
    move = jax.jit(lambda x: x * 1.5)
    return 2 * size / seconds(lambda: move(x), jax.block_until_ready)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="also without a GPU or TPU")
    arguments = parser.parse_args()

    import jax
    import jax.numpy as jnp

    from mindllm_jax.hardware.peak_rates import chip
    from mindllm_jax.recipes.hardware_check.machine import identity
    from mindllm_jax.reporting.tables import Table

    if jax.default_backend() == "cpu" and not arguments.here:
        sys.exit("not measured: JAX finds no GPU and no TPU. --here measures on this machine's CPU.")
    here = jax.local_devices()[0]
    known, told = chip(here.device_kind), identity()
    memory = (here.memory_stats() or {}).get("bytes_limit")
    rows = [
        ("bfloat16 product, TFLOP/s", matrix_product_rate() / 1e12, known and known.flops / 1e12),
        ("float32 product as JAX does it by default, TFLOP/s", matrix_product_rate(jnp.float32) / 1e12, None),
        (
            "copy, GB/s read and written",
            copy_rate(2**24 if here.platform == "cpu" else 2**31) / 1e9,
            known and known.bandwidth / 1e9,
        ),
        ("memory that a program may take, GiB", memory and memory / 2**30, known and known.memory / 2**30),
    ]
    columns = ("rate", "measured", "published peak")
    print(Table(columns, rows, f"{here.device_kind}; {told['device']}").markdown())
    lines = [dict(zip(columns, row, strict=True)) for row in rows]
    print(json.dumps({"device": here.device_kind, "lines": lines, "identity": told}))


if __name__ == "__main__":
    main()
