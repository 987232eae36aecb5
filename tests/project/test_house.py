"""Rules of the house that no tool checks: lengths of files, declared dependencies, pins, what must not be written."""

import ast
import configparser
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = sorted((ROOT / "constraints").glob("*.txt"))


def normalized(name: str) -> str:
    """PEP 503: `Some_Name[extra]>=1` -> `some-name`."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", name, maxsplit=1)[0]).lower()


def declared() -> dict[str, set[str]]:
    """Distributions by extra; `` is the core."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: {normalized(line) for line in lines.split("\n") if line} for extra, lines in lists.items()}


def third_party_imports(path: Path, *, at_import: bool) -> Iterator[str]:
    """Top-level names of other packages that a file imports; with `at_import` only those that importing it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_import else ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        for name in {name.split(".")[0] for name in names}:
            beside = path.with_name(f"{name}.py").exists()  # a script's folder is where Python looks first
            if not beside and name not in sys.stdlib_module_names and name not in ("mindllm_jax", "__future__"):
                yield name


# Reads the metadata of everything that is installed.
providers = functools.cache(metadata.packages_distributions)


def distributions(module: str) -> set[str]:
    """The distributions that provide a module; the module's own name where none is installed."""
    return {normalized(name) for name in providers().get(module, [module])}


def library() -> list[Path]:
    return [*ROOT.glob("mindllm_jax/**/*.py"), *ROOT.glob("kernels/**/*.py")]


def test_entry_points_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("launch/*.py")}
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > 80}


def test_files_are_short() -> None:
    """One idea a file: at most one in ten may pass 300 lines, and none 600."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in library()}
    long = {name: lines for name, lines in lengths.items() if lines > 300}
    assert len(long) <= len(lengths) / 10, long
    assert max(lengths.values()) <= 600, long


def test_imports_are_declared() -> None:
    extras = declared()
    everything = set().union(*extras.values())
    # Written in Triton's language, and itself imported only where it is used; copied into exports, and not imported.
    others = ("triton_kernels.py", "modeling_mindllm.py")
    for path in (path for path in library() if path.name not in others):
        for module in third_party_imports(path, at_import=True):
            # Steps of a datatrove pipeline are its subclasses; whoever imports them has the extra.
            step = module in ("datatrove", "xxhash") and path.is_relative_to(ROOT / "mindllm_jax/corpus")
            assert step or distributions(module) & extras[""], f"{path}: {module} is not in the core"
    for path in [*library(), *ROOT.glob("launch/*.py"), *ROOT.glob("benchmarks/*.py")]:
        for module in third_party_imports(path, at_import=False):
            assert distributions(module) & everything, f"{path}: {module} is in no extra of setup.cfg"


def test_core_has_nothing_unused() -> None:
    used = {name for path in library() for name in third_party_imports(path, at_import=False)}
    unused = declared()[""] - set().union(*map(distributions, used))
    assert not unused


def test_core_has_no_torch_triton_or_cuda() -> None:
    assert not {name for name in declared()[""] if re.match("torch|triton|nvidia|jax-cuda|transformers", name)}


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda path: path.stem)
def test_constraints_pin_everything(constraints: Path) -> None:
    lines = [line for line in constraints.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), lines
    pins = {normalized(line) for line in lines}
    assert not {name for name in pins if re.match("torch$|triton|nvidia|jax-cuda", name)}
    extras = declared()
    for extra in ("", "data", "eval", "demo", "hf", "serve", "test"):
        assert extras[extra] - {"mindllm-jax", "torch"} <= pins, extra
    jax = re.search("jax([0-9.]+)$", constraints.stem)
    assert jax is not None and f"jax=={jax[1]}" in lines


def test_no_machine_is_written_down() -> None:
    """No absolute path of somebody's machine, and no address of a package registry, in a file of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    machine = re.compile(r"(?<![\w.~$}-])/(home|root|Users|work|mnt|opt)/\w|pythonhosted\.org|download\.pytorch\.org")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_symlink() or not path.exists() or path == Path(__file__):
            continue
        found = machine.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{name}: {found and found[0]}"


def test_failed_installation_is_explained(tmp_path: Path) -> None:
    """`.ci/install` without a network: one message that says so and how to go on, never a traceback."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    command = [ROOT / ".ci/install", tmp_path, CONSTRAINTS[0]]
    package = "no-such-package-of-mindllm-jax"
    run = subprocess.run([*command, package], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "cannot reach its package index" in run.stderr and "PIP_FIND_LINKS" in run.stderr
    forgiven = subprocess.run(
        [*command, "--only-if-found", package], env=environment, capture_output=True, text=True, check=False
    )
    assert forgiven.returncode == 0 and "listed as not run" in forgiven.stdout
