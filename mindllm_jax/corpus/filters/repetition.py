"""Measures repetition in a text of either language: lines and n-grams."""

from __future__ import annotations

import numpy as np

from mindllm_jax.text.ngrams import ngrams


def duplicate_line_share(lines: list[str]) -> float:
    """Returns the share of the characters in lines that are copies of earlier lines."""
    seen: set[str] = set()
    duplicate = total = 0
    for line in lines:
        total += len(line)
        if line in seen:
            duplicate += len(line)
        seen.add(line)
    return duplicate / max(1, total)


def duplicate_ngram_share(hashes: np.ndarray, n: int) -> float:
    """Returns the share of the tokens in n-grams that are copies of earlier n-grams."""
    if len(hashes) <= n:
        return 0.0
    grams = ngrams(hashes, n)
    order = np.argsort(grams, kind="stable")
    duplicate = np.zeros(len(grams), np.bool_)
    duplicate[order[1:]] = grams[order[1:]] == grams[order[:-1]]
    covered = np.zeros(len(hashes) + 1, np.int32)
    starts = np.flatnonzero(duplicate)
    np.add.at(covered, starts, 1)
    np.add.at(covered, starts + n, -1)
    return float((np.cumsum(covered[:-1]) > 0).mean())


def top_ngram_share(hashes: np.ndarray, n: int) -> float:
    """Returns the share of the tokens in the most frequent n-gram; 0 if no n-gram occurs four times."""
    if len(hashes) <= n:
        return 0.0
    _, counts = np.unique(ngrams(hashes, n), return_counts=True)
    most = int(counts.max())
    return min(1.0, most * n / len(hashes)) if most > 3 else 0.0


def terminated_share(text: str, ends: tuple[str, ...], inside: tuple[str, ...]) -> float:
    """Returns the share of the characters in terminated lines or, if that is larger, in terminated paragraphs.

    A line that ends with one of `ends` is terminated, another one up to the last of `inside` in it. The lines of text
    that was broken to a width end anywhere, its paragraphs do not; and without blank lines each line is a paragraph.
    """

    def terminated(piece: str) -> int:
        return len(piece) if piece.endswith(ends) else max(piece.rfind(mark) for mark in inside) + 1

    def share(pieces: list[str]) -> float:
        return sum(map(terminated, pieces)) / max(1, sum(map(len, pieces)))

    return max(share([line.strip() for line in text.split("\n")]), share([part.strip() for part in text.split("\n\n")]))
