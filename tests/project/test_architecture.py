"""The diagram of docs/architecture.md is the import graph of the packages."""

from __future__ import annotations

import os
import re
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"
BLOCK = re.compile(r"(<!-- diagram: [^\n]*-->\n```mermaid\n)(.*?)(```\n<!-- end of diagram -->)", re.DOTALL)


def direct_imports() -> dict[str, set[str]]:
    """Which packages each package imports, by their names below `mindllm_jax`."""
    graph = grimp.build_graph("mindllm_jax", cache_dir=None)
    packages = [name.split(".")[1] for name in graph.find_children("mindllm_jax")]
    found: dict[str, set[str]] = {}
    for package in packages:
        name = f"mindllm_jax.{package}"
        modules = graph.find_descendants(name) | {name}
        imported = {full for module in modules for full in graph.find_modules_directly_imported_by(module)}
        found[package] = {full.split(".")[1] for full in imported if "." in full} - {package}
    return found


def diagram(imports: dict[str, set[str]]) -> str:
    """A Mermaid flowchart of the transitive reduction: an arrow is left out where a longer way leads to the same."""

    def reachable(package: str) -> set[str]:
        return imports[package].union(*map(reachable, imports[package]))

    lines = ["flowchart TD"]
    for package in sorted(imports):
        implied = set().union(*(reachable(other) for other in imports[package]))
        lines += [f"  {package} --> {other}" for other in sorted(imports[package] - implied)]
    return "\n".join(lines) + "\n"


def test_diagram_is_the_import_graph() -> None:
    text = PAGE.read_text("utf-8")
    match = BLOCK.search(text)
    assert match
    drawn = diagram(direct_imports())
    if os.environ.get("MINDLLM_UPDATE_GOLDEN"):
        PAGE.write_text(text[: match.start(2)] + drawn + text[match.end(2) :], "utf-8")
        return
    assert match[2] == drawn, "MINDLLM_UPDATE_GOLDEN=1 make quick draws it again"


def test_every_package_is_described() -> None:
    table = PAGE.read_text("utf-8").split("## Packages")[1].split("## Corpus")[0]
    missing = [name for name in direct_imports() if f"`{name}/`" not in table and f"`{name}.py`" not in table]
    assert not missing
