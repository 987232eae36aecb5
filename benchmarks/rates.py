"""Measures this machine's accelerator: a matrix product in bfloat16 and float32, and a copy within its memory.

python benchmarks/rates.py [--here]

The table includes the published peaks (mindllm_jax/hardware/peak_rates.py). All numbers are random: on zeros and ones a
GPU uses less power and is faster than in use. Without a GPU or TPU nothing is measured; --here measures on the CPU.
Prints a table and JSON, with driver, versions and commit.
"""

import argparse
import json
import sys

from attention_calls import matrix_product_rate, seconds


def copy_rate(size: int) -> float:
    """Measures the bytes per second, read and written, of an elementwise pass over an array of `size` bytes."""
    import jax
    import jax.numpy as jnp

    x = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
    move = jax.jit(lambda x: x * 1.5)
    return 2 * size / seconds(lambda: move(x), jax.block_until_ready)


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="measure on the CPU")
    arguments = parser.parse_args()

    import jax
    import jax.numpy as jnp

    from mindllm_jax.hardware.peak_rates import chip
    from mindllm_jax.recipes.hardware_check.machine import identity
    from mindllm_jax.reporting.tables import Table

    if jax.default_backend() == "cpu" and not arguments.here:
        sys.exit("not measured: JAX finds no GPU and no TPU; --here measures on the CPU")
    device = jax.local_devices()[0]
    known, machine = chip(device.device_kind), identity()
    memory = (device.memory_stats() or {}).get("bytes_limit")
    rows = [
        ("bfloat16 product, TFLOP/s", matrix_product_rate() / 1e12, known and known.flops / 1e12),
        ("float32 product by JAX's default, TFLOP/s", matrix_product_rate(jnp.float32) / 1e12, None),
        (
            "copy, GB/s read and written",
            copy_rate(2**24 if device.platform == "cpu" else 2**31) / 1e9,
            known and known.bandwidth / 1e9,
        ),
        ("memory that a program may take, GiB", memory and memory / 2**30, known and known.memory / 2**30),
    ]
    columns = ("rate", "measured", "published peak")
    print(Table(columns, rows, f"{device.device_kind}; {machine['device']}").markdown())
    lines = [dict(zip(columns, row, strict=True)) for row in rows]
    print(json.dumps({"device": device.device_kind, "lines": lines, "identity": machine}))


if __name__ == "__main__":
    main()
