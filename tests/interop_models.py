"""Folders of tiny random models, written by transformers, and runs of ours with random parameters."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from mindllm_jax.interop.architecture import flat
from mindllm_jax.interop.import_run import _write_checkpoint
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import keep_tokenizer

FIXTURE = Path(__file__).parent / "fixtures/tokenizer.model"

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


def a_run(folder: Path, model: Model, tokenizer: Tokenizer | None = None, noise: float = 0.1) -> Path:
    """Random parameters: initial ones and noise, so that norms and biases are random too."""
    tokenizer = tokenizer or Tokenizer.load(FIXTURE)
    model = dataclasses.replace(model, vocab_size=tokenizer.vocab_size)
    params = nnx.to_pure_dict(nnx.state(Decoder(model, rngs=nnx.Rngs(0)), nnx.Param))
    draw = np.random.default_rng(0)
    parameters = {
        path: np.asarray(leaf, np.float32) + draw.normal(scale=noise, size=leaf.shape).astype(np.float32)
        for path, leaf in flat(params)
    }
    identity = {
        "model": dataclasses.asdict(model), "seed": 0, "tokenizer_sha256": tokenizer.sha256, "data": {"zh": {}},
        "step": 7, "position": {"rows": 4, "tokens": 512}, "fingerprint": "",
    }  # fmt: skip
    keep_tokenizer(tokenizer, folder)
    (folder / "checkpoints").mkdir()
    _write_checkpoint(folder / "checkpoints" / "7", parameters, identity)
    return folder
