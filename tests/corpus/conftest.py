"""Documents for filters, and the cost of a filter on any text."""

from collections.abc import Callable
from time import thread_time

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.filters.base import CleaningFilter

MEGABYTE = 1_000_000


def make_document(text: str, **metadata: object) -> Document:
    return Document(text=text, id="1", metadata={"source": "s", **metadata})


@pytest.fixture
def applied() -> Callable[..., tuple[str | None, Document]]:
    """Applies a filter to a text: the drop reason and the document."""

    def apply(step: CleaningFilter, text: str, **metadata: object) -> tuple[str | None, Document]:
        document = make_document(text, **metadata)
        reason = step.apply(document)
        document.text.encode()
        return reason, document

    return apply


@pytest.fixture
def seconds_for_a_megabyte() -> Callable[[Callable[[str], object], str, str], float]:
    """Seconds that a function takes for a megabyte of a repeated piece after a beginning, extrapolated from a tenth.

    A tenth shows quadratic time too.
    """

    def measure(function: Callable[[str], object], beginning: str, piece: str) -> float:
        text = beginning + piece * (MEGABYTE // 10 // len(piece))
        before = thread_time()
        function(text)
        return 10 * (thread_time() - before)

    return measure
