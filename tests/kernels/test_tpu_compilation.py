"""The TPU kernels through the TPU's own compiler, which needs no TPU."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow
CHIPS = [
    "v5e:2x2",
    *(pytest.param(chip, marks=SLOW) for chip in ("v4:2x2x1", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")),
]
COMPILE = """
import sys
import jax, jax.numpy as jnp
from mindllm_jax.kernels.flash_attention import block_ranges, flash_attention
from mindllm_jax.hardware.topologies import tpu_topology, one_device_mesh

mesh = one_device_mesh(tpu_topology(sys.argv[1]))
placed = jax.NamedSharding(mesh, jax.P())

def loss(q, k, v, ids, **options):
    out = flash_attention(q, k, v, segment_ids=ids, block_ranges=block_ranges(ids), **options)
    return out.astype(jnp.float32).sum()

def compile(name, length, heads, kv_heads, head_dim, dtype="bfloat16", **options):
    q, k = (jax.ShapeDtypeStruct((2, length, n, head_dim), dtype, sharding=placed) for n in (heads, kv_heads))
    ids = jax.ShapeDtypeStruct((2, length), jnp.int32, sharding=placed)
    with jax.set_mesh(mesh):  # which names the chip, so that the TPU's kernel is chosen on a machine without one
        gradients = jax.jit(jax.grad(lambda *x: loss(*x, **options), argnums=(0, 1, 2)))
        text = gradients.lower(q, k, k, ids).compile().as_text()
    assert text.count("tpu_custom_call") >= 2, name
    print("compiled", name)

compile("1.3B preset", 2048, 16, 16, 128)
if sys.argv[2] == "all":
    compile("3.1B preset", 2048, 20, 20, 128)
    compile("long row, several spans", 32768, 2, 2, 128)
    compile("grouped heads of 64, window", 1000, 8, 2, 64, window=300)
    compile("heads of 80, cap", 512, 2, 2, 80, logit_cap=30.0)
    compile("heads of 256", 1024, 2, 1, 256)
    compile("float32", 512, 2, 2, 32, dtype="float32")
    compile("the peer splash, grouped", 2048, 4, 2, 64, implementation="splash")
"""


@pytest.mark.long
@pytest.mark.parametrize("chip", CHIPS)
def test_both_directions_compile(chip: str, libtpu: dict[str, str], request: pytest.FixtureRequest) -> None:
    shapes = "all" if request.node.get_closest_marker("slow") else "one"
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, chip, shapes],
        cwd=ROOT,
        env=libtpu,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("compiled") == (8 if shapes == "all" else 1)
