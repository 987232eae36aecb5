"""Docstrings stand alone, and what users read is in the field's words: docs/glossary.md."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for folder in ("mindllm_jax", "kernels", "launch", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "mindllm_jax/kernels" not in str(path)  # the symlink
]

# A first sentence that begins so answers a question that nobody asked.
FRAGMENT = re.compile(
    r"(Of|By|As|At|For|From|In|Into|On|To|With|Without|What|Where|Which|Who|How|That|Those|These|See)\b"
)

# Phrases of a private dialect, with what the field says.
BANNED = {
    r"\b(goes|go|went|going) on (from|with|where|at)\b": "resumes",
    r"\bis told\b|\bare told\b|\bwas told\b": "is reported, is logged, raises",
    r"\bof (one's|ones) own\b|\ba person's own\b": "user-supplied, your own",
    r"\bnewest checkpoint": "latest checkpoint",
    r"\btokens a (step|second|parameter|row)\b|\bFLOPs a token\b|\bbytes a (token|parameter)\b": "per",
    r"\broll call\b": "rendezvous",
    r"\bsays? (so )?no\b": "refuses, raises",
    r"\bis no (number|source of|seed|regular)\b": "is not a",
    r"\bof the whole run\b": "in total",
    r"\bhardware that is not here\b": "hardware that this machine lacks",
}


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """The place and the docstring of the module and of its public classes, functions and methods."""

    def walk(
        node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, place: str
    ) -> Iterator[tuple[str, str]]:
        if text := ast.get_docstring(node):
            yield place, text
        if isinstance(node, ast.Module | ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and inner.name[0] != "_":
                    yield from walk(inner, f"{place}:{inner.name}")

    yield from walk(ast.parse(path.read_text("utf-8")), str(path.relative_to(ROOT)))


def first_sentence(text: str) -> str:
    """Up to the first full stop, colon or question mark that ends a word and a clause."""
    return re.split(r"(?<=[.?!])\s|:\n|\n\n", text, maxsplit=1)[0]


def test_first_sentences_stand_alone() -> None:
    found = [
        f"{place}: {sentence!r}"
        for path in CODE
        for place, text in docstrings(path)
        for sentence in [first_sentence(text)]
        if FRAGMENT.match(sentence) or len(sentence.split()) < 3
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("phrase", BANNED)
def test_no_private_dialect(phrase: str) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    names = [n for n in listed.stdout.split("\0") if n.endswith((".py", ".gin", ".md")) and n != "docs/glossary.md"]
    found = []
    for name in names:
        path = ROOT / name
        if not path.exists() or path.is_symlink() or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if re.search(phrase, line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert not found, f"\nwrite {BANNED[phrase]!r}:\n" + "\n".join(found)
