"""The hardware check: benchmarks accept its commands, interrupted steps resume, and the page shows the results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.recipes.hardware_check import machine, runner
from mindllm_jax.recipes.hardware_check import steps as steps_module
from mindllm_jax.recipes.hardware_check.page import aim_rows, write_results
from mindllm_jax.recipes.hardware_check.runner import result, run_steps
from mindllm_jax.recipes.hardware_check.steps import HardwareCheck, Step, steps

ROOT = Path(__file__).parents[3]


def commands() -> list[Any]:
    listed = []
    for config in (HardwareCheck(store="store"), HardwareCheck(here=True)):
        listed += [pytest.param(step, id=f"{step.name}{'-here' * config.here}") for step in steps(config, Path("w"))]
    return listed


@pytest.mark.parametrize("step", commands())
def test_benchmark_accepts_its_arguments(step: Step) -> None:
    """One argument is unknown, so that nothing runs; the message must name no other."""
    words = [*step.command, *(("--limit", "9") if step.resumable else ()), "--unknown"]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].endswith("error: unrecognized arguments: --unknown")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


SCRIPTS = {
    "fine": "print('# text'); print('{\"complete\": true, \"value\": 1}')",
    "part": "print('{\"complete\": false}')",
    "broken": "import sys; print('words', file=sys.stderr); sys.exit('no such thing')",
    "long": "import time; print('{}'[:1], flush=True); time.sleep(600)",
}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quick steps, one with a missing requirement, and one that does not end."""
    listed = []
    for name, text in SCRIPTS.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        listed.append(Step(name, 1, f"Step {name}", (str(path),), 10, min_minutes=0.0))
    listed.insert(3, Step("needy", 2, "Step needy", ("nothing.py",), 1, needs=("no-such-package",)))
    for module in (runner, steps_module):
        monkeypatch.setattr(module, "steps", lambda *_: iter(listed))
    monkeypatch.setattr("mindllm_jax.recipes.hardware_check.page.steps", lambda *_: iter(listed))
    monkeypatch.setattr(runner, "GRACE", 0.0)


@pytest.mark.usefixtures("scripts")
def test_results_are_kept_and_done_steps_are_skipped(tmp_path: Path) -> None:
    workdir, said = tmp_path / "results", list[str]()
    config = HardwareCheck(here=True, minutes=0.06)
    seen: list[str | None] = []
    assert not run_steps(config, workdir, said.append, lambda: seen.append(result(workdir, "fine").get("status")))
    kept = {name: result(workdir, name) for name in (*SCRIPTS, "needy")}
    assert seen == ["done"] * 5  # written when a step ends
    assert {name: x["status"] for name, x in kept.items()} == {
        "fine": "done", "part": "part", "broken": "failed", "needy": "left out", "long": "failed",
    }  # fmt: skip
    assert kept["fine"]["result"]["value"] == 1 and kept["fine"]["markdown"] == "# text"
    assert "no such thing" in kept["broken"]["output"] and "words" in kept["broken"]["output"]
    assert kept["needy"]["reason"] == "no-such-package not installed"
    assert "its limit" in kept["long"]["reason"] and kept["long"]["seconds"] < 20
    assert kept["fine"]["identity"]["sources"] == machine.source_sha256()

    said.clear()
    assert not run_steps(HardwareCheck(here=True, minutes=0.0), workdir, said.append, lambda: None)
    again = "failed before; name it in HardwareCheck.only to try it again"
    assert said[:3] == ["--- fine: done", "--- part: no time left; run the same command again", f"--- broken: {again}"]
    write_results(config, workdir)
    page = (workdir / "page.html").read_text(encoding="utf-8")
    assert "Toy sizes" in page and "no such thing" in page and "no-such-package not installed" in page
    lines = (workdir / "lines.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 and all(line.count(" | ") == 5 for line in lines)


def test_result_of_other_sources_is_measured_again(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = HardwareCheck.__new__(HardwareCheck)  # `only` names steps of the real list
    for name, value in {"here": True, "store": "", "only": ("fine",), "minutes": 1.0, "commit": "abc"}.items():
        object.__setattr__(only, name, value)
    said = list[str]()
    assert run_steps(only, tmp_path, said.append, lambda: None)
    assert result(tmp_path, "fine")["identity"]["git"] == "abc" and not (tmp_path / "part.json").exists()
    said.clear()
    assert run_steps(only, tmp_path, said.append, lambda: None) and said == ["--- fine: done"]
    monkeypatch.setattr(runner, "digest", lambda: "another")
    said.clear()
    assert run_steps(only, tmp_path, said.append, lambda: None) and "Step fine" in said[0]


def test_failing_page_does_not_stop_the_steps(scripts: None, tmp_path: Path) -> None:
    said = list[str]()

    def fail() -> None:
        raise KeyError("tokens/s")

    run_steps(HardwareCheck(here=True, minutes=0.06), tmp_path, said.append, fail)
    assert (tmp_path / "long.json").exists() and any("the page was not written: KeyError" in line for line in said)


def test_driver_does_not_change_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(name: str, driver: str) -> str:
        monkeypatch.setattr(machine, "gpu", lambda: (name, driver))
        return machine.digest.__wrapped__()

    assert digest("NVIDIA H100", "1") == digest("NVIDIA H100", "2") != digest("NVIDIA H200", "1")


def test_without_a_gpu_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "gpu", lambda: None)
    with pytest.raises(ValueError, match=r"nvidia-smi finds no NVIDIA GPU.*make gpu HERE=1"):
        run_steps(HardwareCheck(), tmp_path / "results", print, lambda: None)
    assert not (tmp_path / "results").exists()


def test_unknown_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no step 'numeric'; there are rates, numerics, attention_128"):
        HardwareCheck(only=("numeric",))


def attention_line(row: str, name: str, forward: float, both: float, length: int = 8192, why: str = "") -> Any:
    problem = {"row": row, "head": 128, "heads": "16/16", "length": length, "implementation": name}
    return problem | {"forward ms": forward, "both ms": both, "why not": why}


def test_aims() -> None:
    untuned = [attention_line("causal", "triton", 100, 100), attention_line("causal", "cudnn", 1, 1, 32768)]
    tuned = [
        attention_line("causal", "triton", 4, 12),
        attention_line("causal", "cudnn", 3, 5),
        attention_line("causal", "triton", 99, 99, length=2048),  # too short to count
        attention_line("causal", "cudnn", 1, 1, length=2048),
        attention_line("packed 1024", "triton", 1, 3),
        attention_line("causal", "torch", 1, 1, why="out of memory"),
    ]
    mfu = [{"what": "ours, triton", "MFU %": 44.0}, {"what": "ours, xla", "MFU %": None}, {"what": "peer", "MFU %": 40}]
    results = {
        "numerics": {"result": {"passed": 60, "failed": 1, "skipped": 2}},
        "attention_128": {"result": {"lines": untuned}},
        "attention_tuned": {"result": {"lines": tuned}},
        "steps_1b3": {"result": {"lines": mfu}},
        "resume": {"result": {"resume": {"equal": True}}},
    }
    rows = [(measured, verdict) for *_, measured, verdict in aim_rows(results)]
    assert rows == [
        ("1", "falls short"),
        ("0.75", "met"),
        ("0.417", "falls short"),
        ("0.333", "met"),
        ("0.6", "falls short"),
        ("44", "falls short"),
        ("1.1", "met"),
        (None, "not measured"),
        (None, "not measured"),
        (True, "met"),
    ]
    assert {verdict for *_, verdict in aim_rows({})} == {"not measured"}


@pytest.mark.long
def test_the_entry_point_is_killed_and_resumable(tmp_path: Path) -> None:
    """Runs two real steps at toy size; the first run is killed in the second step and leaves no process."""
    workdir = tmp_path / "check"
    command = [sys.executable, "launch/hardware_check.py", "--workdir", str(workdir)]
    command += ["--gin.HardwareCheck.here=True", "--gin.HardwareCheck.only=('rates', 'attention_16')"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    lines, until = workdir / "attention_16.jsonl", time.monotonic() + 120
    while not (lines.exists() and '"value"' in lines.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = lines.read_text().splitlines()
    assert (workdir / "rates.json").exists() and not (workdir / "attention_16.json").exists()
    time.sleep(1)
    assert not subprocess.run(["pgrep", "-f", str(workdir)], capture_output=True, check=False).stdout
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- rates: done" in done.stdout and "page.html" in done.stdout
    assert [json.loads(x) for x in lines.read_text().splitlines()[: len(before) - 1]] == [
        json.loads(x) for x in before[:-1]
    ]
    record = result(workdir, "attention_16")
    assert record["status"] == "done" and len(record["result"]["lines"]) == 6
    assert (workdir / "page.html").stat().st_size > 1000
