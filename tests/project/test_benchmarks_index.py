"""benchmarks/README.md lists every script and every helper module, and its commands name real scripts."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_every_script_is_listed() -> None:
    scripts, helpers = (FOLDER / "README.md").read_text("utf-8").split("\nHelper modules")
    files = {path.name: "__main__" in path.read_text("utf-8") for path in FOLDER.glob("*.py")}
    for text, runs in ((scripts, True), (helpers, False)):
        listed = re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE)
        assert listed == sorted(name for name, has_main in files.items() if has_main == runs)
    commands = re.findall(r"^\| `(\w+\.py)` .*`python benchmarks/(\w+\.py)", scripts, re.MULTILINE)
    assert commands and all(script == command for script, command in commands)
    pages = set(re.findall(r"docs/[\w/.-]+\.md", scripts))
    assert all((FOLDER.parent / page).exists() for page in pages)
