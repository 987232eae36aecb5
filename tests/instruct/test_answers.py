"""The repetition of greedy answers, and the prompts that they answer."""

from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.instruct.answers import answer_repetition, first_prompts, repetition
from mindllm_jax.instruct.instructions import Instructions, pack_instructions
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([], 0.0), ([1, 1, 1], 0.0), ([1, 2, 3, 4, 5], 0.0), ([7] * 11, 1 - 1 / 8), ([1, 2] * 4, 1 - 2 / 5)],
)
def test_repetition_is_the_share_of_4_grams_seen_before(tokens: list[int], expected: float) -> None:
    assert repetition(tokens) == pytest.approx(expected)


def test_prompts_end_where_the_answer_begins(base: Path, write, tokenizer: Tokenizer, tmp_path: Path) -> None:
    files = [
        write(*({"id": f"{name}{i}", "input": f"{name} {i}?", "output": "yes"} for i in range(3)), name=f"{name}.jsonl")
        for name in ("a", "b")
    ]
    config = Instructions(tuple(map(str, files)), sequence_length=64, held_out=0.0)
    packed = pack_instructions(config, tokenizer, tmp_path / "rows.npz")
    prompts = first_prompts(packed.train, 3)
    texts = [tokenizer.decode(prompt) for prompt in prompts]
    assert len(prompts) == 3 and all("yes" not in text and "?" in text for text in texts)
    assert ["a" in texts[0], "b" in texts[1], "a" in texts[2]] == [True] * 3, "the datasets in turn"
    measured = answer_repetition(prompts, tokenizer, max_tokens=8)(load_decoder(base).decoder)
    assert measured.keys() == {"repetition"} and 0 <= measured["repetition"] <= 1
    assert len(first_prompts(packed.train, 100)) == 6 and all(isinstance(one, np.ndarray) for one in prompts)
