"""How the tests run: on CPU devices, offline, the same every time, with an account of what they took and left out."""

from __future__ import annotations

import collections
import os
import re
from pathlib import Path

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # also for the processes that tests start

import hypothesis
import jax

# Eight devices in this process, for sharded tests. A process that a test starts has one, unless it asks for more.
jax.config.update("jax_num_cpu_devices", 8)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent

# Seconds on two CPU cores from a fresh clone for the tests that are not slow. A room is a folder of tests/. More than
# the budget is said loudly; more than twice the budget fails the session, so that `make test` stays under 20 minutes.
BUDGETS = {
    "project": 150,
}
DEFAULT_BUDGET = 60

_seconds: dict[str, float] = collections.defaultdict(float)


def _room(nodeid: str) -> str:
    """`tests/data/test_x.py::test_y` -> `data`; a test beside this file belongs to no room."""
    parts = nodeid.split("/")
    return parts[1] if len(parts) > 2 else "(none)"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "slow" not in report.keywords:
        _seconds[_room(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    far_over = [room for room, used in _seconds.items() if used > 2 * BUDGETS.get(room, DEFAULT_BUDGET)]
    if far_over and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _write_budgets(terminalreporter)
    _write_not_run(terminalreporter)
    _write_hardware(terminalreporter)


def _write_budgets(terminal: pytest.TerminalReporter) -> None:
    terminal.section("seconds by room")
    for room, used in sorted(_seconds.items(), key=lambda item: -item[1]):
        budget = BUDGETS.get(room, DEFAULT_BUDGET)
        verdict, colour = "", {}
        if used > 2 * budget:
            verdict, colour = "  MORE THAN TWICE ITS BUDGET: this fails the session", {"red": True, "bold": True}
        elif used > budget:
            verdict, colour = "  OVER ITS BUDGET", {"yellow": True, "bold": True}
        terminal.write_line(f"{room:<16} {used:7.1f} of {budget:4d}{verdict}", **colour)
    terminal.write_line(f"{'total':<16} {sum(_seconds.values()):7.1f}")


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
