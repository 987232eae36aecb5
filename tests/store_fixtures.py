"""A tokenizer, documents, and stores of them or of tokens that count upwards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.store.location import open_files
from mindllm_jax.store.manifest import Manifest
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.tokenized import Tokenized
from mindllm_jax.store.writer import SourceDocuments, build_store, write_source
from mindllm_jax.text.documents import Document, read_documents
from mindllm_jax.tokenization.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent / "fixtures"

MakeStore = Callable[..., TokenStore]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(FIXTURES / "tokenizer.model")


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Of the sources `fixture_zh` and `fixture_en`."""
    return list(read_documents(FIXTURES / "documents.jsonl"))


@pytest.fixture(scope="session")
def source_of(documents: list[Document]) -> Callable[[str], SourceDocuments]:
    """The documents of one language as a source."""

    def make(language: str) -> SourceDocuments:
        own = [document for document in documents if document.lang == language]
        return SourceDocuments(f"fixture_{language}", language, {f"sha of {language}": "file"}, lambda: own)

    return make


@pytest.fixture
def text_store(tmp_path: Path, tokenizer: Tokenizer, source_of: Callable[[str], SourceDocuments]) -> TokenStore:
    """Both sources, a third of the documents held out."""
    build_store(str(tmp_path / "store"), [source_of("zh"), source_of("en")], tokenizer, held_out=0.3)
    return TokenStore.open(tmp_path / "store")


@pytest.fixture
def count_store(tmp_path: Path) -> MakeStore:
    """A store whose tokens are all different: `make({"a": ("zh", [5, 3])})` gives source `a` two documents.

    Ids 0 and 1 are <pad> and <doc>. The others count upwards through all sources, so a token tells where it is from.
    """

    def make(sources: dict[str, tuple[str, Sequence[int]]]) -> TokenStore:
        files, infos, following = open_files(str(tmp_path / "counts")), {}, 2
        for name, (language, lengths) in sources.items():
            parts = []
            for length in lengths:
                parts.append(np.concatenate([[1], np.arange(following, following + length - 1)]).astype(np.uint16))
                following += length - 1
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            order = np.arange(len(lengths), dtype=np.uint64)
            nothing_held_out = np.zeros(len(lengths), np.bool_)
            tokens = np.concatenate(parts) if parts else np.empty(0, np.uint16)
            tokenized = Tokenized(tokens, offsets, np.diff(offsets) - 1, order, nothing_held_out)
            infos[name] = write_source(files, SourceDocuments(name, language, {}, list), tokenized)
        assert following < 60000
        manifest = Manifest("", vocab_size=60000, doc_id=1, pad_id=0, seed=0, held_out=0.0, sources=infos)
        files.write("manifest.json", manifest.to_json()).result()
        return TokenStore.open(tmp_path / "counts")

    return make
