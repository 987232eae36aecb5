import math
import shutil
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.evaluation import compression
from mindllm_jax.evaluation.compression import END, NGram, xz_bits

TRAIN = [f"the cat sat on mat {n % 7}; 猫坐在第{n}张垫子上。".encode() for n in range(50)]
HELD_OUT = [b"the dog sat on mat 3", "狗坐在第9张垫子上。".encode()]


class Reference:
    """The formulas of NGram, one probability at a time."""

    def __init__(self, documents: list[bytes], order: int):
        self.order = order
        counts: list[Counter[bytes]] = [Counter() for _ in range(order + 1)]
        for text in documents:
            padded = END * (order - 1) + text + END
            counts[order].update(padded[i : i + order] for i in range(len(text) + 1))
        for n in range(order - 1, 0, -1):
            counts[n].update(ngram[1:] for ngram in counts[n + 1])
        self.following = [defaultdict(dict) for _ in counts]
        self.discount = [0.0]
        for n in range(1, order + 1):
            for ngram, count in counts[n].items():
                self.following[n][ngram[:-1]][ngram[-1]] = count
            once, twice = (sum(count == k for count in counts[n].values()) for k in (1, 2))
            self.discount.append(once / (once + 2 * twice) if once else 0.5)

    def p(self, byte: int, context: bytes) -> float:
        """p(byte | the last order - 1 bytes)."""
        p = 1 / 256
        for n in range(1, self.order + 1):
            following = self.following[n].get(context[len(context) - n + 1 :])
            if following:
                discounted = max(following.get(byte, 0) - self.discount[n], 0)
                p = (discounted + self.discount[n] * len(following) * p) / sum(following.values())
        return p

    def bits(self, documents: list[bytes]) -> float:
        padded = [END * (self.order - 1) + text + END for text in documents]
        places = [(text, i) for text in padded for i in range(self.order - 1, len(text))]
        return sum(-math.log2(self.p(text[i], text[i - self.order + 1 : i])) for text, i in places)


@pytest.mark.parametrize("order", [2, 5])
def test_n_gram_is_its_formula(order: int) -> None:
    assert NGram(TRAIN, order).bits(HELD_OUT) == pytest.approx(Reference(TRAIN, order).bits(HELD_OUT), rel=1e-12)


@pytest.mark.parametrize("context", [b"\xff\xff\xff\xff", b" sat", b"zzzz", "猫".encode() + b"s"])
def test_probabilities_of_the_formula_sum_to_one(context: bytes) -> None:
    reference = Reference(TRAIN, 5)
    assert sum(reference.p(byte, context) for byte in range(256)) == pytest.approx(1.0, abs=1e-12)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8), st.lists(st.text(min_size=1), min_size=1))
def test_any_text_agrees_with_the_reference(train: list[str], held_out: list[str]) -> None:
    seen, unseen = [text.encode() for text in train], [text.encode() for text in held_out]
    assert NGram(seen, 3).bits(unseen) == pytest.approx(Reference(seen, 3).bits(unseen), rel=1e-12)


def test_counting_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NGram(TRAIN).bits(HELD_OUT)
    monkeypatch.setattr(compression, "_CHUNK_BYTES", 100)
    assert NGram(TRAIN).bits(HELD_OUT) == pytest.approx(whole, rel=1e-14)


def test_documents_are_independent() -> None:
    model = NGram(TRAIN)
    assert model.bits(HELD_OUT) == pytest.approx(sum(model.bits([text]) for text in HELD_OUT), rel=1e-14)


def test_trained_text_costs_less() -> None:
    random = np.random.default_rng(0).integers(32, 127, 500).astype(np.uint8).tobytes()
    model = NGram(TRAIN)
    assert model.bits(TRAIN[:5]) / sum(map(len, TRAIN[:5])) < 1 < model.bits([random]) / len(random)


@pytest.mark.parametrize(
    ("documents", "order", "message"), [([], 5, "no text"), (TRAIN, 1, "must be 2 to 8"), (TRAIN, 9, "2 to 8")]
)
def test_bad_arguments_are_refused(documents: list[bytes], order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NGram(documents, order)


def test_xz_is_the_program(tmp_path: Path) -> None:
    if shutil.which("xz") is None:
        pytest.skip("the program xz is not installed")
    file = tmp_path / "held_out"
    file.write_bytes(b"".join(text + END for text in TRAIN))
    packed = subprocess.run(["xz", "-9", "--stdout", file], capture_output=True, check=True).stdout
    assert xz_bits(TRAIN) == 8 * len(packed)
