"""Runs the numerical tests of the kernels on this machine's GPU: errors against float64, in one table.

python benchmarks/kernel_numerics.py [--lines FILE] [--limit SECONDS] [--here]

Triton's kernels, portable XLA, cuDNN and the loss head, forward and backward, in float32 and bfloat16, under all masks;
each runs twice and must give the same bits. The bound is that of tests/numerics.py: twice the error of the plain
formula in the same dtype on the same machine, with a floor. --here runs a few of the tests on the CPU, Triton's in its
interpreter. Needs pytest and hypothesis. Groups of tests in the file of --lines do not run again. Prints a table and
JSON; the status is 1 if a test failed.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from mindllm_jax.recipes.hardware_check.kept import Kept, TimeUp

ROOT = Path(__file__).parents[1]
ATTENTION = "tests/kernels/test_flash_attention.py"
TRITON = f"{ATTENTION}::test_triton_kernels_have_the_same_errors"
XLA = f"{ATTENTION}::test_errors_are_those_of_the_plain_formula"
LOSS_HEAD = "tests/kernels/test_linear_cross_entropy.py::test_errors_are_those_of_the_plain_formula"
PEERS = "tests/kernels/test_peers.py::test_peers_on_a_gpu"
GROUPS = {"Triton": (TRITON,), "loss head": (LOSS_HEAD,), "peers": (PEERS,), "XLA": (XLA,)}
HERE = {
    "Triton": (f"{TRITON}[offset, ragged, 4 a key head, 64-float32]",),
    "XLA and loss head": (f"{XLA}[decode-bfloat16]", LOSS_HEAD),
}
PROCESSES = min(12, os.cpu_count() or 1)
"""Test processes: most of the time is compilation for the GPU, which uses one core per process."""


def outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Returns whether a test passed, failed or was skipped, and the reason."""
    for kind in ("failure", "error", "skipped"):
        if (found := case.find(kind)) is not None:
            message = found.get("message") or found.text or ""
            return ("skipped" if kind == "skipped" else "failed"), message.splitlines()[0][:300]
    return "passed", ""


def told(case: ElementTree.Element) -> dict[str, Any]:
    """Returns a test's name, outcome, and worst error by implementation."""
    verdict, why = outcome(case)
    recorded = {p.get("name"): p.get("value") or "" for p in case.iter("property")}
    errors = json.loads(recorded.get("errors", "{}"))
    worst = {name: max(of_results.values()) for name, of_results in errors.items()}
    return {"test": case.get("name"), "outcome": verdict, "why": why, "errors": worst}


def run(tests: tuple[str, ...], here: bool, seconds: float) -> list[dict[str, Any]]:
    """Runs tests and returns their results. Raises TimeUp after `limit` seconds, RuntimeError if none ran."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-o", "junit_family=xunit1"]  # has properties
    if not here and importlib.util.find_spec("xdist"):
        command += ["--numprocesses", str(PROCESSES)]
    environment = os.environ | {"MINDLLM_TEST_PLATFORM": "cpu" if here else "cuda"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command += [f"--junitxml={report}", *tests]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=sys.stderr, timeout=min(seconds, 1e6), check=False
            )
        except subprocess.TimeoutExpired:
            raise TimeUp from None
        if not report.exists():
            raise RuntimeError(f"the tests did not run: pytest ended with status {done.returncode}")
        return [told(case) for case in ElementTree.parse(report).iter("testcase")]


def main() -> None:
    """Runs the tests and prints their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, help="a file of results, to resume from")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    parser.add_argument("--here", action="store_true", help="a few of them, on the CPU")
    arguments = parser.parse_args()
    kept = Kept(arguments.lines, arguments.limit)
    groups = HERE if arguments.here else GROUPS
    found: list[dict[str, Any]] = []
    for name, tests in groups.items():
        of_group = kept.measure((name,), lambda tests=tests: run(tests, arguments.here, kept.left()))
        if isinstance(of_group, dict):  # it ended this process
            of_group = [{"test": name, "outcome": "failed", "why": of_group["failed"], "errors": {}}]
        found += of_group or []

    from mindllm_jax.reporting.tables import Table

    worst = [(x["test"], x["errors"]["triton"], x["errors"]["reference"]) for x in found if x["errors"]]
    counts = {verdict: sum(x["outcome"] == verdict for x in found) for verdict in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".\n")
    if failed := [(x["test"], x["why"]) for x in found if x["outcome"] == "failed"]:
        print(Table(("failed", "why"), failed).markdown())
    print(Table(("test", "Triton's worst error", "the plain formula's"), worst).markdown())
    print(json.dumps({"complete": kept.complete, **counts, "tests": found}))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
