"""How the tests run: on CPU devices, offline, the same every time, with an account of what they took and left out.

MINDLLM_TEST_PLATFORM=cuda runs the tests of kernels on this machine's GPU instead; `make gpu` does.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
if os.environ.get("MINDLLM_TEST_PLATFORM", "cpu") == "cpu":
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TRITON_INTERPRET"] = "1"
    # LLVM's optimisation of programs is a fifth of the suite's time and no part of what is tested. `make test-all` sets
    # XLA_FLAGS, to nothing, and compiles as users do.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
else:
    os.environ["JAX_PLATFORMS"] = os.environ["MINDLLM_TEST_PLATFORM"]
    # Float32 means float32 in the plain formula as well: by default a GPU rounds its operands to TF32.
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the processes of pytest-xdist share the GPU
    os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")  # which takes most of the time
# Many tests compile the same small models. All of this holds for the processes that tests start, too. The folder is the
# tests' own, also inside one that is given: they leave an answer in it that was not measured.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache/jax"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = (
    os.environ["JAX_COMPILATION_CACHE_DIR"].removesuffix("/mindllm-jax-tests") + "/mindllm-jax-tests"
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import hypothesis
import jax

from mindllm_jax.training import dtype_cache

# Eight devices in this process, for sharded tests. A process that a test starts has one, unless it asks for more.
jax.config.update("jax_num_cpu_devices", 8)

# What entry points take for `Model.compute_dtype = 'fastest'`: float32, whatever the processor.
dtype_cache.add_to_cache(
    Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / dtype_cache.FILE,
    dtype_cache.key(),
    dtype_cache.Measured(float32=1.0, bfloat16=2.0, date="2026-01-01"),
)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent

pytest_plugins = ("store_fixtures", "process_fixtures")


@pytest.fixture
def libtpu() -> dict[str, str]:
    """The environment of a process that compiles for TPUs: libtpu as installed, or where `make test` puts it."""
    own = Path(sys.prefix) / "libtpu/libtpu/libtpu.so"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    if own.exists():
        environment.setdefault("TPU_LIBRARY_PATH", str(own))
    if "TPU_LIBRARY_PATH" not in environment and importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu, the TPU's compiler, is not installed")
    return environment


# Seconds of processor time from a fresh clone, for the tests that are not slow. A room is a folder of tests/. Together
# the budgets are at most 24 minutes: when every room uses up its own, `make test` takes 12 minutes on two quiet cores.
# More than the budget is said loudly; more than twice the budget fails the session. Counted is the smaller of
# wall-clock and processor time, so that a busy machine fails nobody.
BUDGETS = {
    "ablations": 96,
    "batching": 8,
    "benchmarks": 28,
    "checks": 4,
    "configuration": 10,
    "corpus": 43,
    "evaluation": 100,
    "files": 2,
    "generation": 57,
    "hardware": 2,
    "hashing": 3,
    "instruct": 168,
    "interop": 132,
    "kernels": 158,
    "launch": 4,
    "mixture": 10,
    "model": 87,
    "parallel": 115,
    "planning": 7,
    "process": 2,
    "project": 109,
    "recipes": 21,
    "reporting": 5,
    "serving": 33,
    "store": 6,
    "text": 3,
    "tokenization": 3,
    "training": 224,
}
DEFAULT_BUDGET = 20

# What leaves tests of a marker out, and the command that runs them.
COMMANDS = {"slow": "make test-all", "long": "make test"}
# A test of more seconds is named where it has neither marker, so that `make quick` stays quick.
LONG = 15

# Seconds of wall-clock and of processor time by room, those of long tests without a marker, and how many tests a marker
# left out. `make test` has a process a core: what each of them counts goes to the one that reports.
_wall: dict[str, float] = collections.defaultdict(float)
_processor: dict[str, float] = collections.defaultdict(float)
_unmarked: dict[str, float] = {}
_left_out: dict[str, int] = {}


def _room(nodeid: str) -> str:
    """`tests/data/test_x.py::test_y` -> `data`; a test beside this file belongs to no room."""
    parts = nodeid.split("/")
    return parts[1] if len(parts) > 2 else "(none)"


def _budget(room: str) -> int:
    return BUDGETS.get(room, DEFAULT_BUDGET)


def _used(room: str) -> float:
    return min(_wall[room], _processor[room])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rooms that take longest come first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: -_budget(_room(item.nodeid)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        marker = next((marker for marker in COMMANDS if item.get_closest_marker(marker)), None)
        if marker:
            _left_out[marker] = _left_out.get(marker, 0) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = os.times()
    result = yield
    after = os.times()
    wall, processor = after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4])
    if item.get_closest_marker("slow") is None:
        _wall[_room(item.nodeid)] += wall
        _processor[_room(item.nodeid)] += processor
        if min(wall, processor) > LONG and item.get_closest_marker("long") is None:
            _unmarked[item.nodeid] = min(wall, processor)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    account: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if account is not None:  # in a process of pytest-xdist
        account |= {"wall": dict(_wall), "processor": dict(_processor), "unmarked": _unmarked, "left_out": _left_out}
        return
    if os.environ["JAX_PLATFORMS"] != "cpu":
        return  # the budgets are of two CPU cores
    far_over = [room for room in _wall if _used(room) > 2 * _budget(room)]
    if far_over and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist has ended: its account is added. All of them leave out the same tests."""
    account = getattr(node, "workeroutput", {})  # missing where it crashed
    for total, name in ((_wall, "wall"), (_processor, "processor")):
        for room, seconds in account.get(name, {}).items():
            total[room] += seconds
    _unmarked.update(account.get("unmarked", {}))
    _left_out.update(account.get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _write_budgets(terminalreporter)
    _write_not_run(terminalreporter)
    _write_hardware(terminalreporter)


def _write_budgets(terminal: pytest.TerminalReporter) -> None:
    terminal.section("seconds by room")
    terminal.write_line(f"{'room':<16} {'budget':>8} {'wall':>8} {'processor':>10}")
    for room in sorted(_wall, key=_used, reverse=True):
        budget = _budget(room)
        verdict, colour = "", {}
        if _used(room) > 2 * budget:
            verdict, colour = "  MORE THAN TWICE ITS BUDGET: this fails the session", {"red": True, "bold": True}
        elif _used(room) > budget:
            verdict, colour = "  OVER ITS BUDGET", {"yellow": True, "bold": True}
        terminal.write_line(f"{room:<16} {budget:8d} {_wall[room]:8.1f} {_processor[room]:10.1f}{verdict}", **colour)
    terminal.write_line(f"{'all':<16} {'':8} {sum(_wall.values()):8.1f} {sum(_processor.values()):10.1f}")
    for nodeid, seconds in _unmarked.items():
        terminal.write_line(f"{seconds:.0f} s, which asks for the marker `long`: {nodeid}", yellow=True)


def _write_not_run(terminal: pytest.TerminalReporter) -> None:
    """Skipped tests by reason: what a green run did not show."""
    reasons: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for report in terminal.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")][_room(report.nodeid)] += 1
    terminal.section("not run here")
    for reason, rooms in sorted(reasons.items()):
        terminal.write_line(f"{rooms.total():3d} in {', '.join(sorted(rooms))}: {reason}")
    expression = terminal.config.option.markexpr
    marked = [marker for marker in COMMANDS if _left_out.get(marker) and f"not {marker}" in expression]
    for marker in marked:
        terminal.write_line(f"{_left_out[marker]:3d} {marker} tests: `{COMMANDS[marker]}` runs them")
    if not reasons and not marked:
        terminal.write_line("nothing was left out")


def _write_hardware(terminal: pytest.TerminalReporter) -> None:
    """Writes the table of docs/results/hardware.md: what last ran on hardware that this machine lacks."""
    terminal.section("last verified on hardware (docs/results/hardware.md)")
    for line in (ROOT / "docs/results/hardware.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            terminal.write_line(line.strip("| "))
