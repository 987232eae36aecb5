"""A tokenizer and a small decoder for the tests of generation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flax import nnx

from mindllm_jax.data.tokenizer import Tokenizer
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

MakeDecoder = Callable[..., Decoder]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(__file__).parents[1] / "fixtures/tokenizer.model")


@pytest.fixture(scope="session")
def make_decoder(tokenizer: Tokenizer) -> MakeDecoder:
    """Two layers of width 64, with more rows than the tokenizer has pieces; keywords change the model."""

    def make(**choices: object) -> Decoder:
        settings = {"vocab_size": tokenizer.vocab_size + 32, "layers": 2, "width": 64, "heads": 4, "head_dim": 16}
        settings |= {"feed_forward": 128, "max_length": 96, "compute_dtype": "float32"}
        return Decoder(Model(**(settings | choices)), rngs=nnx.Rngs(0))  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture(scope="session")
def decoder(make_decoder: MakeDecoder) -> Decoder:
    return make_decoder()
