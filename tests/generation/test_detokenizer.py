"""Text that grows token by token: whole characters, and nothing of a stop string."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.generation.detokenizer import IncrementalDetokenizer
from mindllm_jax.tokenization.tokenizer import Tokenizer

TEXTS = st.text(st.sampled_from("ab \n好的𠮷\N{GRINNING FACE}é<>") | st.characters(exclude_categories=("Cs",)))


def grow(
    tokenizer: Tokenizer, text: str, sizes: list[int], stops: tuple[str, ...]
) -> tuple[list[str], IncrementalDetokenizer]:
    """Feeds the tokens of a text in chunks of the given sizes, over and over; what came out, the end included."""
    growing, ids, pieces = IncrementalDetokenizer(tokenizer, stops), list(tokenizer.encode(text)), []
    while ids:
        for size in sizes:
            pieces.append(growing.add(ids[:size]))
            ids = ids[size:]
    return [*pieces, growing.finish()], growing


@given(text=TEXTS, sizes=st.lists(st.integers(1, 5), min_size=1))
def test_pieces_join_to_the_text(tokenizer: Tokenizer, text: str, sizes: list[int]) -> None:
    pieces, growing = grow(tokenizer, text, sizes, ())
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)
    assert not growing.stopped


@given(text=TEXTS, sizes=st.lists(st.integers(1, 5), min_size=1), stops=st.lists(TEXTS, max_size=3))
def test_text_ends_where_a_stop_string_is_complete(
    tokenizer: Tokenizer, text: str, sizes: list[int], stops: list[str]
) -> None:
    pieces, growing = grow(tokenizer, text, sizes, tuple(stops))
    # By definition: read character by character until what was read ends with a stop string.
    expected = text
    for end in range(len(text) + 1):
        if met := [stop for stop in stops if stop and text[:end].endswith(stop)]:
            expected = text[: end - max(map(len, met))]
            break
    assert "".join(pieces) == expected
    assert growing.stopped == any(stop in text for stop in stops if stop)


def test_what_may_become_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    growing = IncrementalDetokenizer(tokenizer, ("\n\nQ:",))
    assert growing.add(tokenizer.encode("yes\n\n")) == "yes"
    assert growing.add(tokenizer.encode("no")) == "\n\nno"
    assert growing.add(tokenizer.encode(".\n\nQ")) == "."
    assert growing.add(tokenizer.encode(": more")) == ""
    assert growing.stopped
    assert growing.add(tokenizer.encode("and more")) == ""


def test_half_a_character_at_the_end_becomes_a_replacement(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a\N{GRINNING FACE}")
    growing = IncrementalDetokenizer(tokenizer)
    assert growing.add(ids[:-1]) == "a"
    assert growing.finish() == "\ufffd"


def test_symbols_are_no_text(tokenizer: Tokenizer) -> None:
    growing = IncrementalDetokenizer(tokenizer)
    assert growing.add([tokenizer.symbols["<user>"], *tokenizer.encode("hi"), tokenizer.pad_id]) == "hi"


def test_a_stop_string_costs_no_more_than_the_text(tokenizer: Tokenizer) -> None:
    growing, begun = IncrementalDetokenizer(tokenizer, ("中" * 300_000,)), time.monotonic()
    assert growing.add(tokenizer.encode("中文")) == "中文"
    assert time.monotonic() - begun < 0.2


@pytest.mark.parametrize("stops", [("",), ("", "")])
def test_an_empty_stop_string_stops_nothing(tokenizer: Tokenizer, stops: tuple[str, ...]) -> None:
    pieces, growing = grow(tokenizer, "abc", [1], stops)
    assert "".join(pieces) == "abc"
    assert not growing.stopped
