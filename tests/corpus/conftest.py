"""Documents for blocks, and what every block must do with any text at all."""

from collections.abc import Callable
from time import process_time

import pytest
from datatrove.data import Document

from mindllm_jax.corpus.filters.base import Block

MEGABYTE = 1_000_000


def make_document(text: str, **metadata: object) -> Document:
    return Document(text=text, id="1", metadata={"source": "s", **metadata})


@pytest.fixture
def judged() -> Callable[..., tuple[str | None, Document]]:
    """What a block says to a text, and the document it leaves."""

    def judge(block: Block, text: str, **metadata: object) -> tuple[str | None, Document]:
        document = make_document(text, **metadata)
        reason = block.judge(document)
        document.text.encode()
        return reason, document

    return judge


@pytest.fixture
def seconds_for_a_megabyte() -> Callable[[Callable[[str], object], str, str], float]:
    """How long a function takes for a megabyte of a piece after a beginning, at the pace of a tenth of it.

    A tenth is enough to tell: what takes the square of the time takes it there too.
    """

    def measure(function: Callable[[str], object], beginning: str, piece: str) -> float:
        text = beginning + piece * (MEGABYTE // 10 // len(piece))
        before = process_time()
        function(text)
        return 10 * (process_time() - before)

    return measure
