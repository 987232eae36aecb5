"""docs/experiments: every file has its sections and a row in the index, newest first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/experiments"
FILES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
EXPERIMENT = ["Question", "Command", "Result", "Decision"]
FINDING = ["Finding", "Consequence"]


def test_index_lists_every_file_once_newest_first() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    listed = re.findall(r"\]\((\d{4}-\d\d-\d\d-[^)/]+\.md)\)", text)
    assert sorted(listed) == [path.name for path in FILES]
    for part in text.split("\n## ")[1:]:
        dates = re.findall(r"^\| (\d{4}-\d\d-\d\d) ", part, re.MULTILINE)
        assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_has_its_sections(path: Path) -> None:
    text = path.read_text("utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections in (EXPERIMENT, FINDING)
    facts = re.findall(r"^- \*\*(\w+)\*\*: \S", text, re.MULTILINE)
    assert facts == ["Date", "Hardware", "Scale", "Commit"] + (["Negative"] if sections == EXPERIMENT else [])
    assert f"- **Date**: {path.name[:10]}\n" in text
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    assert max(map(len, prose)) <= 120
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert all((FOLDER / link).exists() for link in links), links
