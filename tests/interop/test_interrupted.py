"""A conversion that fails or is killed leaves nothing for the next one to trip over."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interop_models import a_run

from mindllm_jax.interop.new_folder import new_folder
from mindllm_jax.interop.write_weights import export_run
from mindllm_jax.model.config import Model

ROOT = Path(__file__).parents[2]
SMALL = Model(layers=1, width=32, heads=4, head_dim=8, mlp_dim=48, max_seq_len=64, residual="pre_norm", mlp="swiglu")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk without space: larger files cannot be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from mindllm_jax.interop.new_folder import new_folder\n"
    code += "with new_folder(Path('far/hf')) as folder: (folder / 'model.safetensors').touch(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert list((tmp_path / "far").iterdir()) == [tmp_path / "far/.hf.partial"]
    with new_folder(tmp_path / "far/hf") as folder:
        assert not any(folder.iterdir())
        (folder / "config.json").touch()
    assert [path.relative_to(tmp_path / "far").as_posix() for path in (tmp_path / "far").rglob("*")] == [
        "hf",
        "hf/config.json",
    ]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "far/hf") as folder:
            (folder / "config.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(tmp_path.iterdir())


def test_two_at_once_do_not_write_the_same_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "hf") as folder:
        with pytest.raises(ValueError, match=r"in use by a conversion .* or give another Convert\.output"):
            new_folder(tmp_path / "hf").__enter__()
        (folder / "config.json").touch()
    assert (tmp_path / "hf/config.json").is_file()


def test_a_disk_without_space(tmp_path: Path) -> None:
    """Of the checkpoint of an import, and of an export's weights."""
    with files_of_at_most(20_000):
        with pytest.raises(OSError, match=r"the checkpoint could not be written to .*File too large"):
            a_run(tmp_path / "run", SMALL)
        assert not any((tmp_path / "run/checkpoints").iterdir())
    (tmp_path / "run/checkpoints").rmdir()
    run = a_run(tmp_path / "run", SMALL)
    with files_of_at_most(20_000), pytest.raises(OSError, match=r"model\.safetensors cannot be written: .*too large"):
        export_run(run, tmp_path / "hf")
    assert list(tmp_path.iterdir()) == [run]
