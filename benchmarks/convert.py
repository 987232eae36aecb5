"""Measures the time and peak memory of a conversion of published weights, with random weights of a shape.

Writes a folder in the layout of the published MindLLM-1.3B (bfloat16, one pytorch_model.bin, or safetensors with
`--format`), makes a run of it in a fresh process, and reports that process's wall time and peak resident memory. Both
are on one disk, and nothing else should run.

    python benchmarks/convert.py --model configs/model/mindllm_1b3_gptneo.gin --folder DIR
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parents[1]


def settings_of(path: Path) -> dict[str, Any]:
    """Returns the settings of a file of configs/model by name."""
    import ast

    lines = (line.partition("=") for line in path.read_text("utf-8").splitlines() if line.startswith("Model."))
    return {name.strip().removeprefix("Model."): ast.literal_eval(value.strip()) for name, _, value in lines}


def write_random(folder: Path, model_file: Path, kind: str) -> int:
    """Writes the folder and returns the number of parameters."""
    from mindllm_jax.interop.architectures import native_architecture
    from mindllm_jax.interop.hugging_face_folder import OUR_TOKENIZER
    from mindllm_jax.model.config import Model

    model = Model(**settings_of(model_file))
    architecture = native_architecture(model)
    rows = architecture.counterparts(model)
    draw = np.random.default_rng(0)

    def tensor(shape: tuple[int, ...]) -> np.ndarray:
        return (draw.standard_normal(shape, np.float32) * 0.02).astype(jnp.bfloat16)

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(architecture.config(model)))
    shutil.copy(ROOT / "tests/fixtures/tokenizer.model", folder / OUR_TOKENIZER)
    if kind == "pytorch":
        import torch

        state = {row.name: torch.from_numpy(tensor(row.shape).view(np.uint16)).view(torch.bfloat16) for row in rows}
        torch.save(state, folder / "pytorch_model.bin")
    else:
        from safetensors.numpy import save_file

        save_file({row.name: tensor(row.shape) for row in rows}, folder / "model.safetensors")
    return sum(int(np.prod(row.shape)) for row in rows)


def convert(folder: Path, workdir: Path) -> None:
    """Converts, and prints seconds and peak gigabytes of this process as JSON."""
    from mindllm_jax.interop.import_run import import_run

    start = time.perf_counter()
    import_run(folder, workdir, {})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": round(time.perf_counter() - start, 1), "peak_gb": round(peak, 2)}))


def main() -> None:
    """Writes the weights, converts them and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "configs/model/mindllm_1b3_gptneo.gin")
    parser.add_argument("--format", choices=("pytorch", "safetensors"), default="pytorch")
    parser.add_argument("--folder", type=Path, required=True, help="an empty place for weights and run; removed after")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    weights, run = arguments.folder / "weights", arguments.folder / "run"
    if arguments.measure:
        convert(weights, run)
        return
    try:
        parameters = write_random(weights, arguments.model, arguments.format)
        command = [sys.executable, __file__, "--measure", "--folder", str(arguments.folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured = json.loads(done.stdout.splitlines()[-1])
        result = {"model": arguments.model.stem, "format": arguments.format, "parameters": parameters, **measured}
        print(json.dumps(result))
    finally:
        for folder in (weights, run):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
