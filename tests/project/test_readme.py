"""README.md and README.zh.md say the same: figures, commands, links; every link leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
FENCED = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")


def figures(text: str) -> Counter[str]:
    return Counter(re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", LINK.sub("](", FENCED.sub("", text))))


def test_figures_are_equal() -> None:
    assert figures(ENGLISH) == figures(CHINESE)


def test_commands_are_equal() -> None:
    english, chinese = (re.sub(r" *#.*", "", "".join(FENCED.findall(text))) for text in (ENGLISH, CHINESE))
    assert english == chinese and "make demo" in english


def test_links_are_equal_but_for_the_way_to_each_other() -> None:
    other = {"README.md", "README.zh.md"}
    assert set(LINK.findall(ENGLISH)) - other == set(LINK.findall(CHINESE)) - other


def test_readme_is_short() -> None:
    assert len(ENGLISH.splitlines()) <= 75


@pytest.mark.parametrize(
    "page",
    sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*.md"))
    + sorted(
        str(path.relative_to(ROOT)) for folder in ("docs", "benchmarks") for path in (ROOT / folder).rglob("*.md")
    ),
)
def test_links_lead_somewhere(page: str) -> None:
    text = FENCED.sub("", (ROOT / page).read_text("utf-8"))
    links = [link for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing
