"""Flores-200: the sentences of English and of Chinese in simplified and traditional script, aligned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mindllm_jax.evaluation.benchmarks.splits import Benchmark, Item, Split, require, text_lines

LANGUAGES = ("eng_Latn", "zho_Hans", "zho_Hant")


def _flores(folder: Path) -> Iterator[Split]:
    for split in ("dev", "devtest"):
        files = [folder / split / f"{language}.{split}" for language in LANGUAGES]
        texts = [text_lines(path) for path in files]
        for path, lines in zip(files, texts, strict=True):
            require(len(lines) == len(texts[0]), str(path), f"{len(lines)} lines, but {len(texts[0])} in {files[0]}")
            for number, line in enumerate(lines, 1):
                require(bool(line.strip()), f"{path}, line {number}", "an empty sentence")
        items: list[Item] = [dict(zip(LANGUAGES, sentences, strict=True)) for sentences in zip(*texts, strict=True)]
        yield Split("mindllm/flores200", "default", split, items, tuple(files))


BENCHMARKS = {
    "flores200": Benchmark(_flores, ("Flores-200. Flores-101 has mostly the same sentences, but is another set.",))
}
