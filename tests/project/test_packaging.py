"""What a user installs: the wheel and the sdist hold the whole library, what stands behind its symlinks included."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("mindllm_jax", "kernels", "configs", "launch", "constraints", ".ci")
pytestmark = pytest.mark.long
FILES = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "Makefile")


def build(what: str, source: Path, target: Path) -> Path:
    """Calls the build backend as pip does, without its isolated environment, which needs a network."""
    script = f"import sys, setuptools.build_meta as backend; backend.build_{what}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, target], cwd=source, capture_output=True, check=True)
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that building leaves nothing behind in the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked_sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", checkout, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def library_files(checkout: Path) -> set[str]:
    """Every file of the library, named as in the wheel."""
    rooms = {path.relative_to(checkout).as_posix() for path in (checkout / "mindllm_jax").rglob("*") if path.is_file()}
    linked = {
        f"mindllm_jax/{path.relative_to(checkout)}"
        for folder in ("kernels", "launch")
        for path in (checkout / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".json")
    }
    assert {name.split("/")[1] for name in linked} == {"kernels", "launch"}
    return rooms | linked


def test_wheel_holds_the_library(checkout: Path, wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert library_files(checkout) <= held
    beside = {name for name in held if not name.startswith(("mindllm_jax/", "mindllm_jax-"))}
    assert not beside, "the wheel would install other top-level names"


def test_sdist_holds_the_library_and_builds_the_same_wheel(
    checkout: Path, wheel: Path, unpacked_sdist: Path, tmp_path: Path
) -> None:
    assert (unpacked_sdist / "mindllm_jax/kernels").is_dir() and (unpacked_sdist / "mindllm_jax/launch").is_dir()
    for name in library_files(checkout):
        assert (unpacked_sdist / name).read_bytes() == (checkout / name).read_bytes(), name
    assert (unpacked_sdist / "launch").is_dir() and (unpacked_sdist / "configs").is_dir()
    again = build("wheel", unpacked_sdist, tmp_path)
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_wheel_imports_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    # The dependencies are lent by this environment. Its editable install is not: that is a .pth file, which only a
    # site folder reads.
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    script = (
        "import importlib, importlib.util, pkgutil, mindllm_jax\n"
        "for module in pkgutil.walk_packages(mindllm_jax.__path__, 'mindllm_jax.'):\n"
        # The modeling file of an export is PyTorch's.
        "    if module.name.endswith('.modeling_mindllm') and not importlib.util.find_spec('torch'): continue\n"
        "    print(importlib.import_module(module.name).__file__)\n"
    )
    run = subprocess.run(
        [python, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    imported = run.stdout.split()
    assert all(Path(path).is_relative_to(tmp_path / "venv") for path in imported), run.stdout
    assert any("/mindllm_jax/kernels/" in path for path in imported), run.stdout
