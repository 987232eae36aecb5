"""The direction of imports: the contracts of pyproject.toml hold, and notice when they do not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What a careless change would add, and the contract that has to name it.
PLANTED = {
    "kernel imports a room": ("kernels/planted.py", "import mindllm_jax.training", "A room imports only"),
    "mixture imports model": ("mindllm_jax/mixture/planted.py", "from mindllm_jax import model", "A room imports only"),
    "configuration imports a room": (
        "mindllm_jax/configuration/schema.py",
        "import mindllm_jax.mixture",
        "A room imports",
    ),
    "room that is not listed": ("mindllm_jax/planted.py", "", "A room imports only"),
    "kernel imports flax": ("kernels/planted.py", "import flax", "Kernels need JAX alone"),
    "training imports gin": ("mindllm_jax/training/planted.py", "import gin", "Only configuration knows gin"),
    "corpus imports jax": ("mindllm_jax/corpus/planted.py", "import jax", "Cleaning text needs no accelerator"),
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library as a checkout has it, the symlinks included."""
    for folder in ("mindllm_jax", "kernels", "launch"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold(copy: Path) -> None:
    run = lint_imports(copy)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("case", PLANTED)
def test_planted_import_is_named(copy: Path, case: str) -> None:
    path, statement, contract = PLANTED[case]
    with (copy / path).open("a") as file:
        file.write(f"\n{statement}\n")
    run = lint_imports(copy)
    assert run.returncode == 1
    broken = [line for line in run.stdout.splitlines() if line.startswith(contract) and "BROKEN" in line]
    assert broken, run.stdout + run.stderr
    planted = "mindllm_jax." + Path(path).with_suffix("").as_posix().removeprefix("mindllm_jax/").replace("/", ".")
    assert planted.rsplit(".", 1)[-1] in run.stdout.split("Broken contracts")[1]
