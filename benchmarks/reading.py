"""Counts the code that a reader meets: sizes of a checkout, and the library files that a command runs through.

python benchmarks/reading.py
python benchmarks/reading.py --root OTHER_CHECKOUT launch/train.py --gin.Mixture.store=STORE --gin.Loop.steps=1

Without a command: Python lines of the library with its entry points, the longest file and function, lines of README.md.
With one: library files in which it called a function, by package. The command runs in this process; a checkout of
another commit needs its own dependencies installed.
"""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

FOLDERS = ("mindllm_jax", "kernels", "launch")


def sources(root: Path) -> list[Path]:
    """Python files of the library, its kernels and entry points; not twice what a symlink shows again."""
    return [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")) if path == path.resolve()]


def functions(path: Path) -> list[tuple[int, str]]:
    """Lines and name of each function of a file."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    return [((node.end_lineno or node.lineno) - node.lineno + 1, f"{path.name}:{node.name}") for node in nodes]


def print_sizes(root: Path) -> None:
    """Prints the sizes of a checkout."""
    files = sources(root)
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    longest = max(lines, key=lambda path: lines[path])
    print(f"library: {sum(lines.values()):,} lines in {len(files)} files")
    print(f"longest file: {longest.relative_to(root)}, {lines[longest]} lines; over 300 lines:", end=" ")
    print(sum(count > 300 for count in lines.values()))
    size, name = max(found for path in files for found in functions(path))
    print(f"longest function: {name}, {size} lines; over 60 lines:", end=" ")
    print(sum(count > 60 for path in files for count, _ in functions(path)))
    print(f"README.md: {len((root / 'README.md').read_text('utf-8').splitlines())} lines")


def print_walk(root: Path, command: list[str]) -> None:
    """Runs the command and prints the library files in which it called a function."""
    seen: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    sys.argv = command
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.setprofile(profile)
    threading.setprofile(profile)
    with suppress(SystemExit):
        runpy.run_path(command[0], run_name="__main__")
    sys.setprofile(None)
    walked = {Path(name).resolve() for name in seen} & set(sources(root))
    packages = Counter("/".join(path.relative_to(root).parts[:2]) for path in walked)
    print(f"{len(walked)} files:", ", ".join(f"{name} {count}" for name, count in sorted(packages.items())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.command:
        print_walk(arguments.root.resolve(), arguments.command)
    else:
        print_sizes(arguments.root.resolve())
