"""The sample of the smallest hashes."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.hashing import hash64
from mindllm_jax.text.sample import SmallestHashes


@given(st.lists(st.text("ab", max_size=6), unique=True, max_size=30), st.integers(1, 40), st.randoms())
def test_a_sample_is_the_smallest_hashes_in_any_order(texts: list[str], share: int, random: random.Random) -> None:
    shuffled = random.sample(texts, len(texts))
    samples = []
    for order in (texts, shuffled):
        sample = SmallestHashes[str](2 * share)
        for text in order[: len(order) // 2]:
            sample.add(hash64(0, text), text, len(text))
        sample.shrink(share)
        for text in order[len(order) // 2 :]:
            sample.add(hash64(0, text), text, len(text))
        samples.append(sample.items())
    assert samples[0] == samples[1]
    total = sum(map(len, texts))
    size = sum(map(len, samples[0]))
    assert size == total or size >= share
    assert size - len(samples[0][-1]) < share if samples[0] else not total


@given(st.lists(st.integers(0, 9)), st.integers(0, 5))
def test_a_number_of_items(keys: list[int], size: int) -> None:
    sample = SmallestHashes[str](size)
    for number, key in enumerate(keys):
        sample.add(key, f"{number}")
    kept = [keys[int(item)] for item in sample.items()]
    assert kept == sorted(keys)[: len(kept)] and len(kept) == min(size, len(keys))
