"""How the tests run: on CPU devices, offline, the same every time, with an account of what they took and left out."""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRITON_INTERPRET"] = "1"
# Many tests compile the same small models. All of this holds for the processes that tests start, too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import hypothesis
import jax

# Eight devices in this process, for sharded tests. A process that a test starts has one, unless it asks for more.
jax.config.update("jax_num_cpu_devices", 8)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent


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


# Seconds on two CPU cores from a fresh clone for the tests that are not slow. A room is a folder of tests/. More than
# the budget is said loudly; more than twice the budget fails the session, so that `make test` stays under 20 minutes.
# Counted is the smaller of wall-clock and processor time, so that a busy machine fails nobody.
BUDGETS = {
    "data": 120,
    "evaluation": 120,
    "generation": 120,
    "instruct": 100,
    "kernels": 240,
    "model": 120,
    "parallel": 180,
    "planning": 120,
    "project": 200,
    "training": 300,
}
DEFAULT_BUDGET = 60

_wall: dict[str, float] = collections.defaultdict(float)
_processor: dict[str, float] = collections.defaultdict(float)


def _room(nodeid: str) -> str:
    """`tests/data/test_x.py::test_y` -> `data`; a test beside this file belongs to no room."""
    parts = nodeid.split("/")
    return parts[1] if len(parts) > 2 else "(none)"


def _used(room: str) -> float:
    return min(_wall[room], _processor[room])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = os.times()
    result = yield
    after = os.times()
    if item.get_closest_marker("slow") is None:
        _wall[_room(item.nodeid)] += after.elapsed - before.elapsed
        _processor[_room(item.nodeid)] += sum(after[:4]) - sum(before[:4])
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    far_over = [room for room in _wall if _used(room) > 2 * BUDGETS.get(room, DEFAULT_BUDGET)]
    if far_over and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _write_budgets(terminalreporter)
    _write_not_run(terminalreporter)
    _write_hardware(terminalreporter)


def _write_budgets(terminal: pytest.TerminalReporter) -> None:
    terminal.section("seconds by room")
    terminal.write_line(f"{'room':<16} {'budget':>8} {'wall':>8} {'processor':>10}")
    for room in sorted(_wall, key=_used, reverse=True):
        budget = BUDGETS.get(room, DEFAULT_BUDGET)
        verdict, colour = "", {}
        if _used(room) > 2 * budget:
            verdict, colour = "  MORE THAN TWICE ITS BUDGET: this fails the session", {"red": True, "bold": True}
        elif _used(room) > budget:
            verdict, colour = "  OVER ITS BUDGET", {"yellow": True, "bold": True}
        terminal.write_line(f"{room:<16} {budget:8d} {_wall[room]:8.1f} {_processor[room]:10.1f}{verdict}", **colour)
    terminal.write_line(f"{'all':<16} {'':8} {sum(_wall.values()):8.1f} {sum(_processor.values()):10.1f}")


def _write_not_run(terminal: pytest.TerminalReporter) -> None:
    """Skipped tests by reason: what a green run did not show."""
    reasons: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for report in terminal.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")][_room(report.nodeid)] += 1
    terminal.section("not run here")
    for reason, rooms in sorted(reasons.items()):
        terminal.write_line(f"{rooms.total():3d} in {', '.join(sorted(rooms))}: {reason}")
    slow = sum("slow" in item.keywords for item in terminal.stats.get("deselected", []))
    if slow:
        terminal.write_line(f"{slow:3d} slow tests: `make test-all` runs them")
    if not reasons and not slow:
        terminal.write_line("nothing was left out")


def _write_hardware(terminal: pytest.TerminalReporter) -> None:
    """The tables of docs/results/hardware.md: what was last seen working on hardware that is not here."""
    terminal.section("last verified on hardware (docs/results/hardware.md)")
    for line in (ROOT / "docs/results/hardware.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            terminal.write_line(line.strip("| "))
