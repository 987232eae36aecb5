"""The whole training step of the 1.3B preset, compiled by the TPU's compiler for four v5p: which buffers it has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
COMPILE = """
import json, math, re, sys
from mindllm_jax.configuration import command_line, load
from mindllm_jax.hardware.topologies import tpu_topology
from mindllm_jax.planning.compiled import compile_step
from mindllm_jax.training.pretrain import Pretrain

bindings = ["Mixture.store=none", "Mixture.sequence_length=2048", "Model.compute_dtype=bfloat16"]
bindings += ["Loop.global_batch_size=8", f"Model.attention={sys.argv[1]}", "MeshAxes.fsdp=4"]
arguments = command_line("", ["--gin", "configs/model/mindllm_1b3.gin", *(f"--gin.{b}" for b in bindings)])
config = load(Pretrain, arguments)
compiled = compile_step(config, tpu_topology("v5p:2x2x1"))
sizes = {math.prod(map(int, shape.split(","))) for shape in re.findall(r"\\w\\d+\\[([\\d,]+)\\]", compiled.text)}
print(json.dumps({
    "scores": bool(sizes & {b * 16 * 2048 * 2048 for b in (2, 8)}),
    "logits": bool(sizes & {b * 2048 * config.model.vocab_size for b in (2, 8)}),
    "kernels": compiled.text.count("tpu_custom_call"),
    "temporary_gb": compiled.temporary / 1e9,
}))
"""


def compiled(attention: str, environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, attention],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_neither_scores_nor_logits_are_ever_whole(libtpu: dict[str, str]) -> None:
    """Of 8 x 2,048 tokens, two rows on each device, there is no [B N T S] and no [B T V]."""
    ours, naive = compiled("tpu", libtpu), compiled("reference", libtpu)
    print(
        f"temporary memory of a device: {ours['temporary_gb']:.2f} GB, naive attention {naive['temporary_gb']:.2f} GB"
    )
    assert not ours["scores"] and not ours["logits"] and ours["kernels"] == 2
    assert naive["scores"] and not naive["kernels"]  # so the search does find them
    assert ours["temporary_gb"] < naive["temporary_gb"]
