"""Folders of tiny random models, written by transformers."""

from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.tokenization.tokenizer import Tokenizer

torch = pytest.importorskip("torch", reason="torch (the extra `hf`) is not installed")
transformers = pytest.importorskip("transformers", reason="transformers (the extra `hf`) is not installed")


def llama(**settings: Any) -> Any:
    config = transformers.LlamaConfig(
        **{"vocab_size": 700, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 1024,
           "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
           "tie_word_embeddings": False, "initializer_range": 0.1} | settings
    )  # fmt: skip
    return randomized(transformers.LlamaForCausalLM, config)


def gpt_neo(**settings: Any) -> Any:
    config = transformers.GPTNeoConfig(
        **{"vocab_size": 700, "hidden_size": 48, "intermediate_size": 80, "num_layers": 4, "num_heads": 4,
           "attention_types": [[["global", "local"], 2]], "window_size": 8, "max_position_embeddings": 1024,
           "initializer_range": 0.1, "embed_dropout": 0.0} | settings
    )  # fmt: skip
    return randomized(transformers.GPTNeoForCausalLM, config)


def randomized(kind: Any, config: Any) -> Any:
    """Gives norms and biases other values than one and zero, so that a swapped pair shows."""
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def saved(model: Any, folder: Path, tokenizer: Tokenizer, **settings: Any) -> Path:
    model.save_pretrained(folder, **settings)
    (folder / "generation_config.json").unlink()  # ids of Llama's own tokenizer
    for name, content in hugging_face_files(tokenizer).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder
