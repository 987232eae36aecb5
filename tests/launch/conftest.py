"""A tiny store and the settings of a run of a few steps."""

from pathlib import Path

import pytest

from mindllm_jax.corpus.documents import Document
from mindllm_jax.data.store_writer import SourceDocuments, build_store
from mindllm_jax.data.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = """
Model.vocab_size = 1000
Model.layers = 2
Model.width = 32
Model.heads = 2
Model.head_dim = 16
Model.feed_forward = 64
Model.max_length = 32
Mixture.weights = {'en': 1}
Mixture.sequence_length = 32
Loop.batch_rows = 4
Loop.log_every = 1
Loop.evaluate_every = 1000
"""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of 80 short documents."""
    folder = tmp_path_factory.mktemp("store") / "store"
    texts = [f"Article {n}: the river was {n * 3} miles long, the mill {n} below.\n" for n in range(80)]
    documents = [Document(text, "wiki", "en", f"wiki/{n}") for n, text in enumerate(texts)]
    tokenizer = Tokenizer.load(ROOT / "tests/fixtures/tokenizer.model")
    build_store(str(folder), [SourceDocuments("wiki", "en", {}, lambda: documents)], tokenizer, held_out=0.1)
    return folder


@pytest.fixture(scope="session")
def gin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a tiny model; the store is given on the command line."""
    file = tmp_path_factory.mktemp("gin") / "tiny.gin"
    file.write_text(SETTINGS)
    return file
