"""docs/extend.md works: every change that it shows is applied to a copy of the project, every check is run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+) (\S[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block with an info string: `diff FILE`, `python FILE append`, `LANGUAGE FILE new`, `python check`."""

    language: str
    place: str
    action: str
    text: str

    def apply(self, root: Path) -> None:
        """Changes the copy. A diff replaces a passage that has to occur once."""
        path = root / self.place
        if self.action == "new":
            assert not path.exists(), f"{self.place} exists"
            path.write_text(self.text, encoding="utf-8")
            return
        before = path.read_text("utf-8")
        if self.action == "append":
            path.write_text(f"{before}\n\n{self.text}", encoding="utf-8")
            return
        assert self.language == "diff", f"{self.place}: {self.language} {self.action!r}"
        lines = self.text.splitlines()
        old = "\n".join(line[1:] for line in lines if line[0] != "+")
        new = "\n".join(line[1:] for line in lines if line[0] != "-")
        count = before.count(old)
        assert count == 1, f"docs/extend.md: {count} times in {self.place}:\n{old}"
        path.write_text(before.replace(old, new), encoding="utf-8")


def blocks() -> list[Block]:
    parsed = []
    for language, info, body in BLOCK.findall((ROOT / "docs/extend.md").read_text("utf-8")):
        place, _, action = info.partition(" ")
        parsed.append(Block(language, place, action, body))
    return parsed


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library, its entry points and its configurations; the symlink of the kernels stays one."""
    for folder in ("mindllm_jax", "kernels", "launch", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_page_works(copy: Path) -> None:
    checks = [block.text for block in blocks() if block.place == "check"]
    changes = [block for block in blocks() if block.place != "check"]
    assert len(checks) >= 9 and len(changes) >= 15
    for block in changes:
        block.apply(copy)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", "\n".join(checks)]
    run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "CountTokens.store = 'runs/store'" in run.stdout
