"""A tokenizer that extends a small one of GPT-2's kind."""

import json
from pathlib import Path

import pytest

from mindllm_jax.tokenization.gpt2_extension import extend_gpt2, gpt2_tokenizer
from mindllm_jax.tokenization.gpt2_files import Gpt2Files
from mindllm_jax.tokenization.tokenizer import Tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def extended(tmp_path: Path) -> Tokenizer:
    """With 50 pieces of Chinese."""
    pytest.importorskip("tokenizers", reason="tokenizers (the extra `hf`) is not installed")
    texts = [json.loads(line)["text"] for line in (FIXTURES / "documents.jsonl").read_text("utf-8").splitlines()]
    files = Gpt2Files(*((FIXTURES / "small_gpt2" / name).read_bytes() for name in ("encoder.json", "vocab.bpe")))
    size = len(json.loads(files.encoder)) + 50 + 3
    return Tokenizer(
        tmp_path / "e.model", extend_gpt2(gpt2_tokenizer(files), texts, vocab_size=size, character_share=0.2, han_run=4)
    )
