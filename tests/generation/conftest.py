"""A tokenizer and a small decoder for the tests of generation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

MakeDecoder = Callable[..., Decoder]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(__file__).parents[1] / "fixtures/tokenizer.model")


@pytest.fixture(scope="session")
def make_decoder(tokenizer: Tokenizer) -> MakeDecoder:
    """Two layers of width 64, with more rows than the tokenizer has pieces; keywords change the model.

    Tests share the programs that are compiled for it, where the shapes of their prompts are alike: most of their time.
    """

    def make(**choices: object) -> Decoder:
        settings = {"vocab_size": tokenizer.vocab_size + 32, "layers": 2, "width": 64, "heads": 4, "kv_heads": 2}
        settings |= {"head_dim": 16, "mlp_dim": 128, "max_seq_len": 96, "compute_dtype": "float32"}
        model = Model(**(settings | choices))  # pyright: ignore[reportArgumentType]
        definition, params = nnx.split(nnx.eval_shape(lambda: Decoder(model, rngs=nnx.Rngs(0))))
        rng = np.random.default_rng(0)

        def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
            """Random values: of numpy, because compiling jax.random takes seconds a shape."""
            is_scale = any(getattr(part, "key", None) == "scale" for part in path)
            return jnp.asarray(rng.normal(is_scale, 0.1, leaf.shape), leaf.dtype)

        return nnx.merge(definition, jax.tree_util.tree_map_with_path(fill, params))

    return make


@pytest.fixture(scope="session")
def decoder(make_decoder: MakeDecoder) -> Decoder:
    """With the implementation of attention that compiles fastest; all are held against each other in tests/kernels."""
    return make_decoder(attention="reference")
