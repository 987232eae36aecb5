"""The requests that a body asks for."""

import dataclasses
from pathlib import Path

from small_tokenizers import metadata

from mindllm_jax.interop.imported_tokenizer import from_gguf
from mindllm_jax.serving.request_bodies import text_body
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.tokenization.tokenizer import Tokenizer


def test_a_text_ends_at_the_end_of_text_of_an_imported_tokenizer(served_model: ServedModel) -> None:
    """Which need not be the symbol that begins it."""
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata()))
    model = dataclasses.replace(served_model, tokenizer=tokenizer)
    (request,) = model.requests(text_body({"model": "small", "prompt": "a"}))
    assert {tokenizer.piece(id) for id in request.stop_ids} == {"<|endoftext|>", "<|im_end|>"}
