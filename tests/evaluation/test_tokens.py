"""Tokens as text for people."""

import pytest

from mindllm_jax.evaluation.tokens import Shown, shown
from mindllm_jax.tokenization.tokenizer import Tokenizer


@pytest.mark.parametrize("text", ["公民的合法权益 is\n law.", "  two\tspaces \u3000", "鼍龘 🦉", "a\r\nb"])
def test_the_tokens_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).tolist()
    pieces = list(shown(tokenizer, ids))
    joined = "".join(piece.text for piece in pieces)
    for mark, space in (("↵\n", "\n"), ("→\t", "\t"), ("·", " "), ("␍", "\r"), ("□", "\u3000")):
        joined = joined.replace(mark, space)
    assert joined == text
    assert sum(piece.tokens for piece in pieces) == len(ids)


def test_bytes_of_one_character_are_joined(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦉").tolist()
    assert len(ids) == 4 and list(shown(tokenizer, ids)) == [Shown("🦉", 4, "text")]
    cut = list(shown(tokenizer, ids[1:]))
    assert [piece.text for piece in cut] == ["9F", "A6", "89"] and {piece.kind for piece in cut} == {"bytes"}
    broken = list(shown(tokenizer, [*ids[:2], tokenizer.doc_id, *ids[2:]]))
    assert [piece.kind for piece in broken] == ["bytes", "bytes", "symbol", "bytes", "bytes"]
    assert broken[2].text == "<doc>"
    three = tokenizer.encode("鼍").tolist()
    assert len(three) == 3  # a symbol between them has no bytes, and still they are no character
    assert len(list(shown(tokenizer, [three[0], tokenizer.doc_id, *three[1:]]))) == 4


def test_a_symbol_is_told_from_its_name_in_a_text(tokenizer: Tokenizer) -> None:
    assert [piece.kind for piece in shown(tokenizer, [tokenizer.doc_id])] == ["symbol"]
    assert {piece.kind for piece in shown(tokenizer, tokenizer.encode("<doc>").tolist())} == {"text"}
