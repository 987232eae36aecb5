"""The Triton kernels through Triton's and NVIDIA's compilers, which need no GPU: registers, shared memory, spills."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from mindllm_jax.kernels.flash_attention import triton
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

COMPILE = """
import json, re, subprocess, sys, tempfile
from pathlib import Path
import jax.numpy as jnp, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mindllm_jax.kernels.flash_attention import triton as launcher, triton_kernels
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings

capability = int(sys.argv[1])
tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
pointers = {"bfloat16": "*bf16", "float32": "*fp32", "int32": "*i32"}
found = []
cases = {
    "usual": [(64, "bfloat16", None), (128, "bfloat16", None), (128, "bfloat16", 30.0), (64, "float32", None)],
    "256": [(256, "bfloat16", None)],
}[sys.argv[2]]
for head_dim, dtype, cap in cases:
    q, k = (jnp.zeros((1, 256, heads, head_dim), dtype) for heads in (4, 2))
    row = jnp.zeros(q.shape[:3])
    ids = jnp.ones((1, 256), jnp.int32)
    problem = Masking(jnp.int32(0), ids, ids, None), Settings(True, None, head_dim**-0.5, cap)
    launches = [launcher.forward_launch(q, k, k, *problem)]
    launches += launcher.backward_launches(q, k, k, *problem, q, row, q, row)
    for launch in launches:
        kernel = getattr(triton_kernels, launch.kernel)
        types = [pointers[x.dtype.name] for x in launch.arrays] + ["i32"] * len(launch.scalars)
        types += [pointers[x.dtype.name] for x in launch.outputs]
        signature = dict(zip(kernel.arg_names, types)) | {name: "constexpr" for name in launch.constants}
        # Pointers and lengths are multiples of 16, as in a batch.
        even = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
        compiled = triton.compile(
            ASTSource(kernel, signature, launch.constants, even),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": launch.tile.warps, "num_stages": launch.tile.stages},
        )
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        found.append({
            "kernel": launch.kernel, "head_dim": head_dim, "dtype": dtype, "cap": cap,
            "cubin": len(compiled.asm["cubin"]),
            "registers": int(re.search(r"REG:(\\d+)", told)[1]),
            "spilled bytes": int(re.search(r"STACK:(\\d+)", told)[1]) + int(re.search(r"LOCAL:(\\d+)", told)[1]),
            "shared": compiled.metadata.shared,
        })
print(json.dumps(found))
"""


def last_line(script: str, *words: str) -> str:
    """What a script prints last, in a process of its own: in this one Triton is the interpreter."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes a block may have, CUDA programming guide


@pytest.mark.long
@pytest.mark.parametrize(
    ("capability", "heads"),
    [
        (90, "usual"),
        *(pytest.param(capability, "usual", marks=pytest.mark.slow) for capability in (80, 100)),
        *(pytest.param(capability, "256", marks=pytest.mark.slow) for capability in SHARED),
    ],
)
def test_kernels_compile_without_spills(capability: int, heads: str) -> None:
    kernels = json.loads(last_line(COMPILE, str(capability), heads))
    print(*kernels, sep="\n")
    assert len(kernels) == {"usual": 12, "256": 3}[heads]
    assert all(kernel["cubin"] and kernel["shared"] <= SHARED[capability] for kernel in kernels)
    # The tiles are for plain scores on Ampere and Hopper; with a cap, on Blackwell, and in float32, which is for
    # tests, up to 48 bytes spill.
    if capability < 100:
        plain = [kernel for kernel in kernels if kernel["dtype"] == "bfloat16" and not kernel["cap"]]
        assert plain
        assert not [kernel for kernel in plain if kernel["spilled bytes"]]


LOWER = """
import jax, jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
from mindllm_jax.kernels.flash_attention import flash_attention

q, k = (jax.ShapeDtypeStruct((2, 1024, heads, 128), jnp.bfloat16) for heads in (4, 2))
ids = jax.ShapeDtypeStruct((2, 1024), jnp.int32)

def loss(q, k, v, ids):
    return flash_attention(q, k, v, segment_ids=ids, implementation="triton").astype(jnp.float32).sum()

gpu = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
with use_abstract_mesh(AbstractMesh((1,), ("device",), abstract_device=gpu)):
    lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(q, k, k, ids).lower(lowering_platforms=("cuda",))
print(lowered.as_text().count("triton_kernel_call"))
"""


@pytest.mark.skipif(importlib.util.find_spec("jax_triton") is None, reason="jax-triton is not installed")
def test_jax_lowers_the_three_kernels_for_a_topology() -> None:
    assert last_line(LOWER) == "3"


def test_a_version_of_jax_triton_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    q = jnp.zeros((1, 32, 1, 16))
    masking, settings = Masking(jnp.int32(0), None, None, None), Settings(True, None, 1.0, None)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    with pytest.raises(ImportError, match=r"is tested with jax-triton 0\.3\.1, 0\.4\.1; 9\.9 is installed"):
        triton.forward(q, q, q, masking, settings)
