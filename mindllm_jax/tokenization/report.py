"""Tokenizer statistics: compression, coverage and byte fallback, by language and by source."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer

_COLUMNS = ("documents", "bytes", "bytes_per_token", "character_coverage", "byte_token_share")


def measure(tokenizer: Tokenizer, documents: Sequence[Document]) -> dict[str, Any]:
    """Returns the statistics of the documents together.

    `character_coverage` is the share of their characters that are pieces by themselves; `byte_token_share` the share
    of their tokens that are bytes of a character without a piece. No tokenizer has an unknown token.
    """
    ids = np.concatenate(tokenizer.encode_batch([document.text for document in documents]))
    size = sum(len(document.text.encode()) for document in documents)
    characters = Counter[str]()
    for document in documents:
        characters.update(document.text)
    pieces = {tokenizer.piece(id) for id in range(tokenizer.vocab_size) if not tokenizer.is_byte[id]}
    covered = sum(count for character, count in characters.items() if character in pieces)
    figures = (
        len(documents),
        size,
        round(size / len(ids), 4),
        round(covered / characters.total(), 6),
        round(float(tokenizer.is_byte[ids].mean()), 6),
    )
    return dict(zip(_COLUMNS, figures, strict=True))


def by_source(documents: Iterable[Document]) -> dict[str, list[Document]]:
    """Returns documents by the name of their source, in order."""
    sources: dict[str, list[Document]] = {}
    for document in documents:
        sources.setdefault(document.source, []).append(document)
    return dict(sorted(sources.items()))


def report_table(report: dict[str, Any]) -> Table:
    """Tabulates a training report: a line for each source and for each language."""
    rows: list[list[Cell]] = []
    for lang, language in report["languages"].items():
        rows += [
            [name, *(figures[column] for column in _COLUMNS), figures["measured_on"]]
            for name, figures in [*language["sources"].items(), (f"all of {lang}", language)]
        ]
    return Table(("source", *(column.replace("_", " ") for column in _COLUMNS), "measured on"), rows)
