"""The account that a run of the tests gives of its time and of what it left out: tests/conftest.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_budgets_are_12_minutes_of_two_cores(request: pytest.FixtureRequest) -> None:
    account = request.config.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    assert account is not None
    rooms = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    assert set(account.BUDGETS) <= rooms
    assert sum(account.BUDGETS.get(room, account.DEFAULT_BUDGET) for room in rooms) <= 2 * 12 * 60


@pytest.mark.slow
def test_two_processes_give_one_account() -> None:
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "-m", "not slow and not long"]
    tests = ["tests/files", "tests/benchmarks/test_loss_head.py", "tests/planning/test_compiled_for_tpu.py"]
    run = subprocess.run([*command, *tests], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("files", "all"))] == ["files", "all"]
    assert [line for line in lines if line.endswith(" runs them")] == [
        "  2 slow tests: `make test-all` runs them",
        "  1 long tests: `make test` runs them",
    ]
    assert sum("last verified on hardware" in line for line in lines) == 1
    assert " passed in " in lines[-1]
