"""Hashes of tokens and n-grams, against plain Python."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.text.codepoints import canonical, han
from mindllm_jax.text.ngrams import mix, ngrams, span_hashes, tokens

BASE = 0x9E3779B97F4A7C15
# Both scripts, separators, full-width forms, emoji, characters beyond the first plane.
MIXED = st.text(st.sampled_from(list("aB1 ，。汉漢字\n-Ａ１😀𠮷é")), max_size=60)


def mixed_bits(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def span_hash(values: list[int]) -> int:
    return mixed_bits(sum(value * pow(BASE, place, 2**64) for place, value in enumerate(values)) % 2**64)


def token_list(text: str) -> list[tuple[int, list[int]]]:
    """Starts and canonical code points of the tokens."""
    found: list[tuple[int, list[int]]] = []
    within = False
    for place, character in enumerate(text):
        point = int(canonical()[ord(character)])
        if point and within and not han()[point]:
            found[-1][1].append(point)
        elif point:
            found.append((place, [point]))
        within = point != 0 and not han()[point]
    return found


@given(st.one_of(MIXED, st.text(max_size=40)))
def test_tokens_are_the_reference(text: str) -> None:
    found, reference = tokens(text), token_list(text)
    assert found.starts.tolist() == [start for start, _ in reference]
    assert found.hashes.tolist() == [span_hash(points) for _, points in reference]
    assert found.is_han.tolist() == [bool(han()[points[0]]) for _, points in reference]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 8))
def test_ngrams_are_the_reference(values: list[int], n: int) -> None:
    runs = [values[i : i + n] for i in range(max(min(1, len(values)), len(values) - n + 1))]
    assert ngrams(np.array(values, np.uint64), n).tolist() == [span_hash(run) for run in runs]


def test_a_span_is_the_same_wherever_it_stands() -> None:
    """Also beyond the first table of powers, which is made for 65,536 values."""
    span = np.arange(7, dtype=np.uint64)
    values = np.concatenate([span, np.full(100_000, 9, np.uint64), span])
    first, last = span_hashes(values, np.array([0, len(values) - 7]), np.array([7, len(values)])).tolist()
    assert first == last == span_hash(span.tolist())


def test_mix_is_one_to_one() -> None:
    assert len(np.unique(mix(np.arange(100_000, dtype=np.uint64)))) == 100_000


@pytest.mark.parametrize(
    "variant",
    [
        "ＧＤＰ增长了５个百分点，比去年快。",
        "gdp 增长了 5 个百分点 比去年快",
        "GDP增長了5個百分點——比去年快！",
        "《GDP》\n增长了\u3000“5”个百分点\u200b比去年快😀",
    ],
)
def test_width_case_script_spaces_and_punctuation_do_not_count(variant: str) -> None:
    plain = "GDP增长了5个百分点,比去年快."
    assert tokens(variant).hashes.tolist() == tokens(plain).hashes.tolist()


@pytest.mark.parametrize(("a", "b"), [("中国人", "中人国"), ("ab c", "a bc"), ("12", "1 2"), ("a", "b"), ("国", "图")])
def test_what_differs_differs(a: str, b: str) -> None:
    assert tokens(a).hashes.tolist() != tokens(b).hashes.tolist()


@pytest.mark.parametrize("text", ["", " \n", "，。！？", "😀👨‍👩‍👧", "\U0010ffff"])
def test_no_tokens(text: str) -> None:
    found = tokens(text)
    assert not any(map(len, found))
    assert not len(ngrams(found.hashes, 5))


def test_words_are_counted_as_a_reader_would() -> None:
    text = "The 3 quick-brown foxes don't jump."
    assert len(tokens(text).hashes) == len(re.findall(r"[A-Za-z0-9]+", text))
