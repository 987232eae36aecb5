"""A sharded step through the TPU's compiler: how parameters are gathered and gradients summed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
COMPILE = """
import json, sys
from mindllm_jax.configuration import command_line, load
from mindllm_jax.parallel.described import described
from mindllm_jax.parallel.hardware import chip
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.planning.compiled import compile_step
from mindllm_jax.training.pretrain import Pretrain

settings = ["Mixture.store=none", "Model.compute_dtype=bfloat16", "Mixture.sequence_length=1024", "Loop.batch_rows=128"]
shape = ["layers=8", "width=1024", "heads=8", "feed_forward=2816", f"vocab_size={sys.argv[1]}", "remat=attention"]
words = [*settings, *(f"Model.{x}" for x in shape), "MeshAxes.data=4", "MeshAxes.fsdp=16"]
gin = ["--gin", "configs/model/mindllm_3b.gin", "--gin", "configs/hardware/tpu.gin"]
run = load(Pretrain, command_line("", [*gin, *(f"--gin.{x}" for x in words)]))
compiled = compile_step(run, described("v5p:4x4x4"))
print(json.dumps([[c.kind, c.bytes, len(c.group), c.times, c.overlapped] for c in compiled.program.collectives]))
"""


def collectives(vocabulary: int, libtpu: dict[str, str]) -> list[list]:
    script = [sys.executable, "-c", COMPILE, str(vocabulary)]
    done = subprocess.run(script, cwd=ROOT, env=libtpu, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_parameters_are_gathered_by_layer_and_gradients_scattered(libtpu: dict[str, str]) -> None:
    """16 of 64 v5p share the parameters. A vocabulary that is no multiple of 128 shows what the check can find."""
    table = 32768 * 1024
    found = collectives(32768, libtpu)
    print(*found, sep="\n")
    gathered = [c for c in found if c[0] == "all-gather" and c[3] == 8]
    assert gathered and all(c[1] < 2 * 2 * 1024 * 2816 and c[2] == 16 for c in gathered), "layer by layer"
    assert sum(c[1] for c in gathered if c[4]) > 0.5 * sum(c[1] for c in gathered), "beside the products"
    assert any(c[0] == "reduce-scatter" and c[3] == 8 for c in found)
    assert not [c for c in found if c[0] == "all-reduce" and c[1] >= 2 * table], "no table's gradient is summed whole"
    assert [c for c in collectives(32700, libtpu) if c[0] == "all-reduce" and c[1] >= 2 * 32700 * 1024]
