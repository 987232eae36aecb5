"""Whole runs as processes: exact resume, refusals, damage, several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import latest_checkpoint
from mindllm_jax.training.checksums import CHECKSUMS

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.long


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the latest checkpoint by its path."""
    found = {}
    for item in ("params", "training"):
        with ocp.StandardCheckpointer() as reader:
            _flatten(reader.restore(latest_checkpoint(workdir) / item), item, found)
    return found


def _flatten(tree, name: str, found: dict[str, np.ndarray]) -> None:
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            _flatten(value, f"{name}/{key}", found)
    elif tree is not None:
        found[name] = np.asarray(tree)


def steps_of(workdir: Path) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row["step"] for row in map(json.loads, lines) if "loss" in row]


@pytest.fixture(scope="module")
def straight(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps in one process."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    done = run(workdir)
    assert done.returncode == 0, done.stderr
    assert "parameters" in done.stdout and (workdir / "report.html").exists()
    return workdir


def test_ten_steps_equal_five_and_a_new_process_and_five(run, straight, tmp_path):
    # A run that stops at five with a plan for ten: killed after its checkpoint of step 5 is complete.
    process = subprocess.Popen(
        [
            sys.executable,
            "launch/train.py",
            "--gin",
            str(straight / "operative_config.gin"),
            "--workdir",
            str(tmp_path / "run"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/checkpoints/5" / CHECKSUMS).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = run(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "resuming after step 5 of 10\n" in done.stdout or "all 10 steps are done" in done.stdout
    expected, found = arrays(straight), arrays(tmp_path / "run")
    assert expected.keys() == found.keys() and len(expected) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert steps_of(tmp_path / "run") == steps_of(straight) == list(range(1, 11))


@pytest.mark.slow
def test_worker_processes_read_the_same_rows(run, straight, tmp_path):
    done = run(tmp_path / "run", "--gin.Loader.worker_processes=1")
    assert done.returncode == 0, done.stderr
    expected, found = arrays(straight), arrays(tmp_path / "run")
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_finished_run_says_so(run, straight):
    done = run(straight)
    assert done.returncode == 0 and "all 10 steps are done" in done.stdout


def test_a_finished_run_on_a_store_that_holds_nothing_out_says_so(run, tmp_path):
    text = [Document(f"Article {n}: the river was {n * 3} miles long.\n", "wiki", "en", f"{n}") for n in range(40)]
    tokenizer = Tokenizer.load(ROOT / "tests/fixtures/tokenizer.model")
    build_store(str(tmp_path / "store"), [SourceDocuments("wiki", "en", {}, lambda: text)], tokenizer, held_out=0.0)
    settings = (f"--gin.Mixture.store={tmp_path / 'store'}", "--gin.Mixture.weights={'en': 1}", "--gin.Loop.steps=2")
    first, second = (run(tmp_path / "run", *settings) for _ in range(2))
    assert first.returncode == 0 and "warning: no source has held-out text" in first.stdout, first.stderr
    assert second.returncode == 0 and "all 2 steps are done; nothing to do" in second.stdout, second.stderr


def test_a_workdir_of_another_configuration_is_refused(run, straight):
    done = run(straight, "--gin.Optimizer.peak_learning_rate=0.5")
    assert done.returncode == 2
    assert "Pretrain.optimizer.peak_learning_rate: was 0.0003, is now 0.5" in done.stderr
    assert "--accept_changes" in done.stderr and "Traceback" not in done.stderr


def test_a_checkpoint_of_another_model_is_refused(run, straight, tmp_path):
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(straight), str(copy)], check=True)
    done = run(copy, "--gin.Model.width=48", "--accept_changes", "--gin.Loop.steps=12")
    assert done.returncode == 2
    assert re.search(r"another model: .* is \(.*32.*\) in it and \(.*48.*\) in this run", done.stderr), done.stderr


def test_a_flipped_bit_is_noticed_and_the_file_named(run, straight, tmp_path):
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(straight), str(copy)], check=True)
    victim = max(
        (p for p in (latest_checkpoint(copy) / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    done = run(copy, "--accept_changes", "--gin.Loop.steps=12")
    assert done.returncode == 2 and "does not match its checksum" in done.stderr and victim.name in done.stderr


def test_stopping_by_signal_saves_and_the_next_run_goes_on(run, straight, tmp_path):
    command = [sys.executable, "launch/train.py", "--gin", str(straight / "operative_config.gin")]
    command += ["--workdir", str(tmp_path / "run"), "--gin.Loop.steps=100000", "--gin.Checkpointing.every_steps=100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "resume from what was saved" in errors
    assert int(latest_checkpoint(tmp_path / "run").name) >= 1


def test_a_run_whose_output_ends_saves_and_stops(straight, tmp_path):
    """As that of `train.py | head`."""
    command = [sys.executable, "launch/train.py", "--gin", str(straight / "operative_config.gin")]
    command += ["--workdir", str(tmp_path / "run"), "--gin.Loop.steps=100000", "--gin.Checkpointing.every_steps=100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith("step"):
            break
    process.stdout.close()
    assert process.wait(timeout=300) == 141 and "has ended (a pipe such as `| head`)" in process.stderr.read()
    assert int(latest_checkpoint(tmp_path / "run").name) >= 1


def test_a_full_disk_is_told_and_nothing_is_lost(run, straight, tmp_path):
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(straight), str(copy)], check=True)
    limit = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    before = arrays(copy)
    done = run(copy, "--accept_changes", "--gin.Loop.steps=12", before=(sys.executable, "-c", limit))
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr and "The latest complete one is step 10" in done.stderr
    after = arrays(copy)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_two_processes_train_as_one(run, straight, tmp_path):
    cluster = (sys.executable, "launch/local_cluster.py", "--processes", "2", "--devices", "2", "--")
    done = run(tmp_path / "run", "--gin.MeshAxes.fsdp=2", before=cluster)
    assert done.returncode == 0, done.stderr
    assert steps_of(tmp_path / "run") == list(range(1, 11)), "one process writes the metrics"

    def losses(workdir: Path) -> list[float]:
        rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if "loss" in row]

    np.testing.assert_allclose(losses(tmp_path / "run"), losses(straight), rtol=1e-4)


def test_two_slices_of_eight_devices_train_and_evaluate(run, tmp_path):
    """Rows are measured on all devices: 16 of them, where the mesh has an axis that few tests split."""
    settings = (
        "--gin.MeshAxes.slices=2",
        "--gin.MeshAxes.data=1",
        "--gin.MeshAxes.fsdp=8",
        "--gin.Loop.global_batch_size=16",
    )
    sixteen = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=16"}
    done = run(tmp_path / "run", *settings, "--gin.Loop.steps=2", "--gin.Loop.evaluate_every=1", environment=sixteen)
    assert done.returncode == 0, done.stderr
    assert "slices 2 x fsdp 8" in done.stdout and done.stdout.count("bits_per_byte/zh") == 2


def test_two_processes_of_which_one_is_told_to_stop_save_the_same_step(straight, tmp_path):
    """Clusters tell each process on its own, at slightly different times."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "launch/train.py", "--gin", str(straight / "operative_config.gin")]
    command += ["--workdir", str(tmp_path / "run"), "--gin.Loop.steps=100000", "--gin.Checkpointing.every_steps=100000"]
    told = os.environ | {"JAX_PLATFORMS": "cpu", "MINDLLM_COORDINATOR": address, "MINDLLM_PROCESSES": "2"}
    first, second = (
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=told | {"MINDLLM_PROCESS": index},
            stdout=subprocess.PIPE if index == "0" else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in "01"
    )
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("step"):
            break
    second.send_signal(signal.SIGTERM)
    for process in (first, second):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 130 and "resume from what was saved" in errors, errors
    assert int(latest_checkpoint(tmp_path / "run").name) >= 1


def test_a_vocabulary_that_does_not_fit_is_refused(run, tmp_path):
    done = run(tmp_path / "run", "--gin.Model.vocab_size=500")
    assert done.returncode == 2 and "1000 pieces and Model.vocab_size is 500" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("--gin.Mixture.sequence_length=64",), "rows of 64 tokens are longer than Model.max_seq_len = 32"),
        (
            ("--gin.Loop.global_batch_size=9", "--gin.Loop.grad_accum_steps=2"),
            "9 is not a multiple of Loop.grad_accum_steps = 2",
        ),
        (("--gin.MeshAxes.data=3",), "needs 3 devices; there are 1"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_starts(run, tmp_path, settings, message):
    done = run(tmp_path / "run", "--dry_run", *settings)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


# A process counts what it was forked from towards its own peak, so a small one stands between it and these tests.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def test_the_3b_model_s_cost_is_printed_within_2_gb():
    command = [sys.executable, "launch/train.py", "--gin", "configs/pretrain/mindllm_3b.gin", "--dry_run"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "3,182,592,000" in done.stdout and "500.00B" in done.stdout
    assert int(done.stdout.split()[-1]) < 2e9
