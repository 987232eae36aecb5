"""How much of a text repeats itself, in either language: lines, and runs of tokens."""

from __future__ import annotations

import numpy as np

from mindllm_jax.text.ngrams import shingles


def repeated_lines(lines: list[str]) -> float:
    """The share of the characters in lines that were there before."""
    seen: set[str] = set()
    again = total = 0
    for line in lines:
        total += len(line)
        if line in seen:
            again += len(line)
        seen.add(line)
    return again / max(1, total)


def repeated_runs(hashes: np.ndarray, n: int) -> float:
    """The share of the tokens that stand in a run of n which was there before."""
    if len(hashes) <= n:
        return 0.0
    runs = shingles(hashes, n)
    order = np.argsort(runs, kind="stable")
    again = np.zeros(len(runs), np.bool_)
    again[order[1:]] = runs[order[1:]] == runs[order[:-1]]
    covered = np.zeros(len(hashes) + 1, np.int32)
    starts = np.flatnonzero(again)
    np.add.at(covered, starts, 1)
    np.add.at(covered, starts + n, -1)
    return float((np.cumsum(covered[:-1]) > 0).mean())


def commonest_run(hashes: np.ndarray, n: int) -> float:
    """The share of the tokens that the most frequent run of n makes up; 0 where none is there four times."""
    if len(hashes) <= n:
        return 0.0
    _, counts = np.unique(shingles(hashes, n), return_counts=True)
    most = int(counts.max())
    return min(1.0, most * n / len(hashes)) if most > 3 else 0.0


def ending_share(text: str, ends: tuple[str, ...], inside: tuple[str, ...]) -> float:
    """The share of the characters in lines, or if that is more in paragraphs, that say something to its end.

    A line that ends with one of `ends` does, another up to the last of `inside` in it. Lines that were broken to a
    width end anywhere, their paragraphs as others do; and where there are no blank lines, each line is a paragraph.
    """

    def said(piece: str) -> int:
        return len(piece) if piece.endswith(ends) else max(piece.rfind(mark) for mark in inside) + 1

    def share(pieces: list[str]) -> float:
        return sum(map(said, pieces)) / max(1, sum(map(len, pieces)))

    return max(share([line.strip() for line in text.split("\n")]), share([part.strip() for part in text.split("\n\n")]))
