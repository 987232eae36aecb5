"""A page and its Chinese version say the same: figures, commands, links; every link leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "README.zh.md", "docs/tutorial.md": "docs/zh/tutorial.md"}
GLOSSARY = ("docs/glossary.md", "docs/zh/glossary.md")
FENCED = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")


def figures(text: str) -> Counter[str]:
    return Counter(re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", LINK.sub("](", FENCED.sub("", text))))


def versions(page: str) -> tuple[str, str]:
    """The texts of an English page and its Chinese version."""
    return (ROOT / page).read_text("utf-8"), (ROOT / PAGES[page]).read_text("utf-8")


def linked(page: str) -> set[Path | str]:
    """Where the links of a page lead, in English where a page has a Chinese version."""
    english = {ROOT / chinese: ROOT / page for page, chinese in (*PAGES.items(), GLOSSARY)}
    links: list[str] = LINK.findall((ROOT / page).read_text("utf-8"))
    paths = {link: ((ROOT / page).parent / link).resolve() for link in links if "://" not in link}
    return {english.get(path, path) for path in paths.values()} | {link for link in links if link not in paths}


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_equal(page: str) -> None:
    english, chinese = versions(page)
    assert figures(english) == figures(chinese)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_equal(page: str) -> None:
    english, chinese = (re.sub(r" *#.*", "", "".join(FENCED.findall(text))) for text in versions(page))
    assert english == chinese and len(english.splitlines()) > 10


@pytest.mark.parametrize("page", PAGES)
def test_links_are_equal_but_for_the_language(page: str) -> None:
    assert linked(page) == linked(PAGES[page])


def test_the_chinese_glossary_has_the_same_terms() -> None:
    """Down to the phrases, which are about English."""
    english, chinese = ((ROOT / page).read_text("utf-8").partition("## Phrases")[0] for page in GLOSSARY)
    terms, translated = (re.findall(r"^\| ([^|-][^|]*) \|", text, re.MULTILINE) for text in (english, chinese))
    headings = ("letter", "term", "字母", "术语")
    assert [one for one in terms if one not in headings] == [one for one in translated if one not in headings]
    assert len(terms) > 80


def test_readme_is_short() -> None:
    assert len(versions("README.md")[0].splitlines()) <= 75


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
