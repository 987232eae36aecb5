"""Measures seconds to the first finished step, cold and with the compilation cache, and of `--help`.

python benchmarks/startup.py --store runs/demo/store [--gin configs/demo/demo.gin]

Each start is a separate process; the first fills an empty compilation cache, the second reads it. For comparison, a
process that only imports jax. Prints a table and JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Returns the wall-clock seconds of a command, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--gin", default="configs/demo/demo.gin")
    arguments = parser.parse_args()

    import rich

    from mindllm_jax.reporting.tables import Table

    train = [sys.executable, "launch/train.py"]
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}

        def one_step(name: str) -> list[str]:
            settings = [f"--gin.Mixture.store={arguments.store}", "--gin.Loop.steps=1"]
            return [*train, "--gin", arguments.gin, *settings, "--workdir", f"{folder}/{name}"]

        rows = [
            ("import jax", seconds([sys.executable, "-c", "import jax; jax.devices()"], cache)),
            ("train.py --help", seconds([*train, "--help"], cache)),
            ("one step, cold", seconds(one_step("cold"), cache)),
            ("one step, with the cache", seconds(one_step("warm"), cache)),
        ]
    caption = "A run of one step evaluates the held-out sample, saves a checkpoint and writes the report too."
    rich.print(Table(("command", "seconds"), rows, caption).terminal())
    print(json.dumps(dict(rows)))


if __name__ == "__main__":
    main()
