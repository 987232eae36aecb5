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
from mindllm_jax.hardware.topologies import topology_devices
from mindllm_jax.hardware.peak_rates import chip
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.planning.compiled import compile_step
from mindllm_jax.training.pretrain import Pretrain

settings = ["Mixture.store=none", "Model.compute_dtype=bfloat16", "Mixture.sequence_length=1024"]
settings += ["Loop.global_batch_size=128"]
shape = ["layers=8", "width=1024", "heads=8", "mlp_dim=2816", f"vocab_size={sys.argv[1]}", "remat=attention"]
words = [*settings, *(f"Model.{x}" for x in shape), *(f"MeshAxes.{x}" for x in sys.argv[3:])]
gin = ["--gin", "configs/model/mindllm_3b.gin", "--gin", "configs/hardware/tpu.gin"]
run = load(Pretrain, command_line("", [*gin, *(f"--gin.{x}" for x in words)]))
compiled = compile_step(run, topology_devices(sys.argv[2]))
assert compiled.text.count("tpu_custom_call") >= 2, "attention is the TPU's kernel"
print(json.dumps([[c.kind, c.bytes, len(c.group), c.times, c.overlapped] for c in compiled.program.collectives]))
"""


def collectives(libtpu: dict[str, str], vocabulary: int, topology: str, *mesh: str) -> list[list]:
    """Kind, bytes, size of the group, times and whether overlapped, of each collective of a step."""
    script = [sys.executable, "-c", COMPILE, str(vocabulary), topology, *mesh]
    done = subprocess.run(script, cwd=ROOT, env=libtpu, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_parameters_are_gathered_by_layer_and_gradients_scattered(libtpu: dict[str, str]) -> None:
    """16 of 64 v5p share the parameters. A vocabulary that is no multiple of 128 shows what the check can find."""
    table = 32768 * 1024
    mesh = ("v5p:4x4x4", "data=4", "fsdp=16")
    found = collectives(libtpu, 32768, *mesh)
    print(*found, sep="\n")
    gathered = [c for c in found if c[0] == "all-gather" and c[3] == 8]
    assert gathered and all(c[1] < 2 * 2 * 1024 * 2816 and c[2] == 16 for c in gathered), "layer by layer"
    assert sum(c[1] for c in gathered if c[4]) > 0.5 * sum(c[1] for c in gathered), "beside the products"
    assert any(c[0] == "reduce-scatter" and c[3] == 8 for c in found)
    assert not [c for c in found if c[0] == "all-reduce" and c[1] >= 2 * table], "no table's gradient is summed whole"
    ragged = collectives(libtpu, 32700, *mesh)
    assert [c for c in ragged if c[0] == "all-reduce" and c[1] >= 2 * 32700 * 1024]


def test_rows_split_over_devices_gather_keys_and_values(libtpu: dict[str, str]) -> None:
    """Of 8 v5p, 4 share each row: every layer gathers keys and values of 1,024 tokens, 8 heads of 128."""
    found = collectives(libtpu, 32768, "v5p:2x2x2", "data=1", "fsdp=2", "context=4")
    print(*found, sep="\n")
    whole = 64 * 1024 * 8 * 128 * 2  # of 128 rows, over the 2 of fsdp, in bfloat16
    assert [c for c in found if c[0] == "all-gather" and c[1] in (whole, 2 * whole) and c[2] == 4 and c[3] == 8]
