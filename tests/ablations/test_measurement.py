"""Which held-out text the variants of several stores are measured on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from flax import nnx

from mindllm_jax.ablations.measurement import HeldOutText, same_text, text_store
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, train_tokenizer


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    texts = [f"In the {word} there was number {i}. " * 4 for i, word in enumerate(["begin", "end", "house", "sea"] * 8)]
    return [Document(text, "books", "en", str(i)) for i, text in enumerate(texts)]


def _store(folder: Path, documents: Sequence[Document], tokenizer: Tokenizer) -> TokenStore:
    build_store(str(folder), [SourceDocuments("books", "en", {}, lambda: documents)], tokenizer, held_out=0.3)
    return TokenStore.open(folder)


def test_stores_of_one_tokenizer_are_measured_on_the_text_of_the_baseline(
    tmp_path: Path, documents: list[Document], tokenizer: Tokenizer
):
    clean = _store(tmp_path / "clean", documents, tokenizer)
    raw = _store(
        tmp_path / "raw", [dataclasses.replace(one, text=f"<b>{one.text}</b>") for one in documents], tokenizer
    )
    text = HeldOutText(clean.url, ("books",), 64)
    assert text_store(text, 32, raw).url == text_store(text, 32, clean).url == clean.url
    model = Model(vocab_size=tokenizer.vocab_size, layers=1, width=16, heads=1, head_dim=16, mlp_dim=32, max_seq_len=32)
    decoder = Decoder(model, rngs=nnx.Rngs(0))
    values = same_text(text, 32, clean)(decoder)
    assert same_text(text, 32, raw)(decoder) == values
    assert values.keys() == {"bits_per_byte/en", "bits_per_byte/books", "bits_per_byte/mean"}
    assert same_text(HeldOutText(raw.url, ("books",), 64), 32, clean)(decoder) != values


def test_stores_of_several_tokenizers_must_hold_the_same_documents(
    tmp_path: Path, documents: list[Document], tokenizer: Tokenizer
):
    own = _store(tmp_path / "own", documents, tokenizer)
    lines = [json.dumps(dataclasses.asdict(one)) for one in documents]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    settings = TrainTokenizer(inputs=(str(tmp_path / "text.jsonl"),), output=str(tmp_path / "a.model"), vocab_size=300)
    other, _ = train_tokenizer(settings)
    text = HeldOutText(own.url, (), 1000)
    same = _store(tmp_path / "same", documents, other)
    assert text_store(text, 32, same).url == same.url
    fewer = _store(tmp_path / "fewer", documents[:20], other)
    with pytest.raises(ValueError, match=r"held-out text of books has \d+ bytes in .*own and \d+ in .*fewer"):
        text_store(text, 32, fewer)
    more = _store(tmp_path / "more", documents, other)
    build_store(more.url, [SourceDocuments("news", "en", {}, lambda: documents)], other, held_out=0.3)
    with pytest.raises(ValueError, match=r"held-out text of news has 0 bytes in .*own and \d+ in .*more"):
        text_store(text, 32, TokenStore.open(more.url))
    with pytest.raises(ValueError, match=r"held_out_rows is 2, and the held-out text of en in .*same has \d+ rows"):
        text_store(text._replace(rows=2), 32, same)
