"""The compute dtype of a processor: measured once, cached, logged, the same in all processes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from process_fixtures import InTwoProcesses

from mindllm_jax.model.config import Model
from mindllm_jax.training import compute_dtype, dtype_cache
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity
from mindllm_jax.training.compute_dtype import resolve_dtype
from mindllm_jax.training.dtype_cache import FILE, Measured

ROOT = Path(__file__).parents[2]
OPEN = Model(layers=1)
TODAY = "2026-02-03"


@pytest.fixture
def kept(tmp_path: Path):
    """The folder of compiled programs, an empty one."""
    config: Any = jax.config
    before = config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "kept"))
    yield tmp_path / "kept"
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Measured]:
    """What measurements find, the last first; each takes one away."""
    found = [Measured(9.0, 1.0, TODAY), Measured(1.24, 1.0, TODAY)]
    monkeypatch.setattr(compute_dtype, "measure", lambda *_, **__: found.pop())
    return found


def test_it_is_measured_once_and_cached(kept: Path, measured: list[Measured], capsys) -> None:
    assert resolve_dtype(OPEN) == replace(OPEN, compute_dtype="bfloat16")
    path = kept / FILE
    assert capsys.readouterr() == (
        "",
        f"compute dtype: bfloat16, 1.24 times as fast as float32 on this machine (measured once; {path})\n",
    )
    assert resolve_dtype(OPEN).compute_dtype == "bfloat16" and len(measured) == 1
    assert capsys.readouterr().err == (
        f"compute dtype: bfloat16, 1.24 times as fast as float32 on this machine (measured on {TODAY}; {path})\n"
    )
    assert [path.name for path in kept.iterdir()] == [FILE], "no temporary file is left"


@pytest.mark.parametrize(
    ("gain", "dtype", "said"),
    [
        (0.8, "float32", "float32; bfloat16 is 0.80 times as fast on this machine (measured"),
        (1.04, "float32", "float32; bfloat16 is 1.04 times as fast on this machine, less than 1.05 (measured"),
        (1.06, "bfloat16", "bfloat16, 1.06 times as fast as float32 on this machine (measured"),
    ],
)
def test_bfloat16_is_taken_where_it_gains_something(kept, measured, capsys, gain: float, dtype: str, said: str) -> None:
    measured.append(Measured(gain, 1.0, TODAY))
    assert resolve_dtype(OPEN).compute_dtype == dtype
    assert capsys.readouterr().err.startswith(f"compute dtype: {said}")


@pytest.mark.parametrize("changed", ["processor", "cores", "jaxlib", "XLA_FLAGS"])
def test_another_machine_or_version_is_measured_for_itself(kept, measured, monkeypatch, changed: str) -> None:
    resolve_dtype(OPEN)
    before = dtype_cache.key()
    with monkeypatch.context() as other:
        if changed == "processor":
            other.setattr(dtype_cache, "processor", lambda: "Z80")
        elif changed == "cores":
            other.setattr(os, "sched_getaffinity", lambda _: set(range(99)), raising=False)
        elif changed == "jaxlib":
            other.setattr(dtype_cache.importlib.metadata, "version", lambda _: "9.9.9")
        else:
            other.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        resolve_dtype(OPEN)
        now = dtype_cache.key()
    assert not measured, "a second measurement"
    assert dtype_cache.read_cache(kept / FILE) == {before: Measured(1.24, 1.0, TODAY), now: Measured(9.0, 1.0, TODAY)}


def test_the_number_of_cpu_devices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which one is measured."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    alone = dtype_cache.key()
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=16")
    assert dtype_cache.key() == alone


# Of two machines that a hypervisor gives one name, and of an ARM processor, which names itself by numbers.
CPUINFO = "cpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 {}\n\n"
ARM = "Features\t: fp asimd sve bf16 svebf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\nCPU part\t: 0xd41\n"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (CPUINFO.format(1, ""), "AMD EPYC 25 1 (avx2)"),
        (CPUINFO.format(17, "avx512f avx512_bf16"), "AMD EPYC 25 17 (avx2 avx512_bf16 avx512f)"),
        (ARM, "0x41 0xd40 (bf16 sve svebf16)"),
    ],
)
def test_a_processor_is_known_by_its_instructions_too(monkeypatch, content: str, name: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: content)
    assert dtype_cache.processor() == name


ENTRY = {"float32": 1.0, "bfloat16": 2.0, "date": TODAY}
DAMAGED = [
    "{",
    "[]",
    '{"a": 3}',
    json.dumps({"key": ENTRY | {"bfloat16": 0}}),
    json.dumps({"key": ENTRY | {"bfloat16": "2"}}),
    json.dumps({"key": ENTRY | {"bfloat16": float("nan")}}),
    json.dumps({"key": ENTRY | {"date": "\x1b[31m"}}),
    json.dumps({"key": ENTRY | {"date": 3}}),
    json.dumps({"key": ENTRY | {"more": 3}}),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_or_foreign_file_is_reported_and_replaced(kept, measured, capsys, content: str) -> None:
    path = kept / FILE
    kept.mkdir()
    path.write_text(content.replace("key", dtype_cache.key()))
    assert resolve_dtype(OPEN).compute_dtype == "bfloat16" and len(measured) == 1
    warning, answer = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"compute dtype: {path}: damaged: ") and warning.endswith("measurement replaces the file")
    assert answer.endswith(f"(measured once; {path})")
    assert dtype_cache.read_cache(path) == {dtype_cache.key(): Measured(1.24, 1.0, TODAY)}


def test_without_a_writable_folder_it_is_measured_and_not_cached(kept, measured, capsys) -> None:
    kept.touch()  # a file where the folder should be, which keeps the superuser out too
    assert resolve_dtype(OPEN).compute_dtype == "bfloat16"
    (line,) = capsys.readouterr().err.splitlines()
    assert "(measured, not cached: " in line and line.endswith("to a writable folder)")
    resolve_dtype(OPEN)
    assert not measured, "measured again"


@pytest.mark.parametrize("place", [None, "gs://bucket/kept"])
def test_without_a_folder_it_is_not_cached(kept, measured, capsys, place: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", place)
    assert resolve_dtype(OPEN).compute_dtype == "bfloat16"
    assert "(measured, not cached: set JAX_COMPILATION_CACHE_DIR" in capsys.readouterr().err


def test_a_dry_run_measures_nothing_and_reads_the_cache(kept, measured, capsys) -> None:
    assert resolve_dtype(OPEN, measuring=False).compute_dtype == "float32"
    assert "float32, because this machine was not measured" in capsys.readouterr().err
    assert len(measured) == 2 and not kept.exists()
    resolve_dtype(OPEN)
    assert resolve_dtype(OPEN, measuring=False).compute_dtype == "bfloat16" and len(measured) == 1


def test_a_given_dtype_is_neither_measured_nor_logged(kept, measured, monkeypatch, capsys) -> None:
    with jax.enable_x64(True):
        for dtype in ("float32", "bfloat16", "float64"):
            assert resolve_dtype(replace(OPEN, compute_dtype=dtype)).compute_dtype == dtype
    with pytest.raises(ValueError, match="computes it as float32 unless JAX_ENABLE_X64=1"):
        resolve_dtype(replace(OPEN, compute_dtype="float64"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert resolve_dtype(OPEN) == OPEN
    assert capsys.readouterr() == ("", "") and len(measured) == 2 and not kept.exists()


@pytest.mark.slow
def test_a_run_resumes_in_another_dtype_and_logs_it(run, tmp_path: Path) -> None:
    """As on another machine: its settings leave the dtype open, its records hold the one it used."""
    dtype_cache.add_to_cache(tmp_path / FILE, dtype_cache.key(), Measured(2.0, 1.0, TODAY))
    here, there = {}, {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    workdir = tmp_path / "run"

    def goes(dtype: str, steps: int, environment: dict[str, str]) -> str:
        done = run(workdir, f"--gin.Loop.steps={steps}", "--accept_changes", environment=environment)
        assert done.returncode == 0, done.stderr
        assert f"compute dtype: {dtype}" in done.stderr and "(measured on 2026-" in done.stderr
        assert json.loads((workdir / "command.json").read_text())["compute_dtype"] == dtype
        assert dtype in (workdir / "report.html").read_text("utf-8")
        identity = read_identity(latest_checkpoint(workdir))
        assert identity["compute_dtype"] == dtype and identity["model"]["compute_dtype"] == "fastest"
        return done.stdout

    goes("float32", 2, here)
    resumed = goes("bfloat16", 4, there)
    assert "resuming after step 2 of 4, in bfloat16 from now on, in float32 before\n" in resumed


# Each process would find another dtype, cached in a folder of its own or measured.
PROCESS = """
import sys
from pathlib import Path
import jax
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.startup import start
from mindllm_jax.training import compute_dtype, dtype_cache
start()
folder, index = Path(sys.argv[1]), jax.process_index()
found = [dtype_cache.Measured(2.0, 1.0, "2026-01-01"), dtype_cache.Measured(1.0, 2.0, "2026-01-01")]

def measure(*_, **__):
    (folder / f"measured by {index}").touch()
    return found[index]

compute_dtype.measure = measure
answers = []
for name in ("cached", "measured"):
    jax.config.update("jax_compilation_cache_dir", str(folder / f"{name} {index}"))
    if name == "cached":
        dtype_cache.add_to_cache(folder / f"{name} {index}" / dtype_cache.FILE, dtype_cache.key(), found[1 - index])
    answers.append(compute_dtype.resolve_dtype(Model()).compute_dtype)
(folder / f"answers {index}").write_text(" ".join(answers))
"""


@pytest.mark.long
def test_processes_that_find_different_answers_take_the_first_one_s(
    in_two_processes: InTwoProcesses, tmp_path: Path
) -> None:
    done = in_two_processes(PROCESS)
    assert {(tmp_path / f"answers {index}").read_text() for index in (0, 1)} == {"float32 bfloat16"}
    assert [path.name for path in tmp_path.glob("measured by *")] == ["measured by 0"]
    assert done.stderr.count("compute dtype: ") == 2, "one process logs"
    assert not (tmp_path / "measured 1").exists()


@pytest.mark.long
def test_a_measurement_takes_real_steps() -> None:
    toy = Model(vocab_size=512, layers=2, width=32, heads=2, head_dim=16, mlp_dim=64, max_seq_len=16)
    taken = compute_dtype.measure(toy, rows=2, pairs=3)
    assert 0 < taken.float32 < 10 and 0 < taken.bfloat16 < 10
    assert taken.date[:2] == "20"
