"""Texts come back as they were, and no text makes a symbol."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from mindllm_jax.tokenization.tokenizer import Tokenizer

FIXTURE = Path(__file__).parent.parent / "fixtures" / "tokenizer.model"
TOKENIZER = Tokenizer.load(FIXTURE)
SYMBOLS = set(TOKENIZER.symbols.values())

# What goes wrong in tokenizers: runs of blanks, ends of lines, marks of the tokenizer itself, names of symbols,
# characters outside the vocabulary or of several code points.
BLANKS = [" ", "  ", "    return x", "\t", "\n", "\n\n\n\n\n", "\r\n", "\r", "\0", "\u2028", "\u200d", "\ufeff"]
MARKS = ["\u2581", "\u2585", "\u2047", "\ufffd", "<doc>", "<user>", "<assistant>", "<pad>", "<unk>", "<s>", "<0x41>"]
OTHERS = ["12345", "道可道", "龘", "𠮷", "ｆｕｌｌ", "é", "e\u0301", "ﬁ", "Ⅷ", "①", "\U0010ffff", "👩\u200d🔬"]
AWKWARD = st.sampled_from(BLANKS + MARKS + OTHERS)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.lists(st.one_of(AWKWARD, st.text(st.characters(exclude_categories=("Cs",)), max_size=5))).map("".join),
)


@given(TEXTS)
@example("def f(x):\n\treturn  x  # 两个  空格\r\n\r\n" * 3)
@example("\u2581\u2581 a\u2581b \u2581")
@example(" ⁇ ")
def test_the_round_trip_is_exact_and_yields_no_symbol(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int32
    assert TOKENIZER.decode(ids) == text
    assert not SYMBOLS & set(ids.tolist())
    assert TOKENIZER.token_bytes[ids].sum() == len(text.encode())


def test_the_round_trip_of_every_code_point() -> None:
    code_points = [code for code in (*range(0x10000), *range(0x10000, 0x110000, 17)) if not 0xD800 <= code < 0xE000]
    random.Random(0).shuffle(code_points)
    texts = ["".join(map(chr, code_points[i : i + 4096])) for i in range(0, len(code_points), 4096)]
    for text, ids in zip(texts, TOKENIZER.encode_batch(texts), strict=True):
        assert TOKENIZER.decode(ids) == text


def test_a_space_is_not_its_mark() -> None:
    assert TOKENIZER.encode("a b").tolist() != TOKENIZER.encode("a\u2581b").tolist()


def test_runs_of_newlines_are_one_token() -> None:
    assert [len(TOKENIZER.encode("\n" * n)) for n in range(1, 9)] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert TOKENIZER.token_bytes[TOKENIZER.encode("\n\n\n")].tolist() == [3]


def test_digits_are_split() -> None:
    assert [TOKENIZER.piece(id) for id in TOKENIZER.encode("1969")] == ["1", "9", "6", "9"]


def test_a_batch_is_its_texts_one_by_one(documents: list) -> None:
    texts = [document.text for document in documents] + ["", "\u2581", "a\u2581"]
    for text, ids in zip(texts, TOKENIZER.encode_batch(texts), strict=True):
        np.testing.assert_array_equal(ids, TOKENIZER.encode(text))
    assert TOKENIZER.encode_batch([]) == []


def test_symbols_stand_for_no_bytes_and_are_left_out_of_texts() -> None:
    assert TOKENIZER.token_bytes[list(SYMBOLS)].tolist() == [0, 0, 0, 0]
    ids = [
        TOKENIZER.doc_id,
        *TOKENIZER.encode("a"),
        TOKENIZER.symbols["<user>"],
        *TOKENIZER.encode("b"),
        TOKENIZER.pad_id,
    ]
    assert TOKENIZER.decode(ids) == "ab"
    assert TOKENIZER.piece(TOKENIZER.doc_id) == "<doc>"


def test_a_character_cut_in_two() -> None:
    ids = TOKENIZER.encode("龘")
    assert len(ids) == 3
    assert TOKENIZER.decode_bytes(ids[:2]) == "龘".encode()[:2]
    assert TOKENIZER.decode(ids[:2]) == "\ufffd"


@pytest.mark.parametrize("id", [-1, 1000])
def test_an_id_outside_the_vocabulary(id: int) -> None:
    with pytest.raises(ValueError, match=rf"token id {id} is not in the tokenizer's vocabulary of 1000"):
        TOKENIZER.decode([3, id])


def test_half_a_surrogate_pair() -> None:
    with pytest.raises(ValueError, match=r"lone surrogate \(U\+D800\) at character 2"):
        TOKENIZER.encode("ab\ud800")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer .*x\.model; train one with"):
        Tokenizer.load(tmp_path / "x.model")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_cut_off(tmp_path: Path, size: int) -> None:
    (tmp_path / "x.model").write_bytes(FIXTURE.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x\.model (is not a SentencePiece model|has no symbol)"):
        Tokenizer.load(tmp_path / "x.model")


def _train(**changes: Any) -> bytes:
    model = io.BytesIO()
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 300,
        "byte_fallback": True,
        "minloglevel": 2,
    }
    sentences = iter(["the quick brown fox jumps over the lazy dog"] * 3)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=model, **(settings | changes))
    return model.getvalue()


def test_a_model_without_our_symbols() -> None:
    with pytest.raises(ValueError, match=r"m has no symbol <pad>; train a tokenizer with launch/train_tokenizer.py"):
        Tokenizer(Path("m"), _train())


def test_a_model_whose_symbols_are_found_in_text() -> None:
    symbols = ["<pad>", "<doc>", "<user>", "<assistant>"]
    with pytest.raises(ValueError, match="has no symbol"):
        Tokenizer(Path("m"), _train(user_defined_symbols=symbols))


def test_a_model_that_changes_text() -> None:
    symbols = ["<pad>", "<doc>", "<user>", "<assistant>"]
    with pytest.raises(ValueError, match="m changes text: it normalises, adds a space in front"):
        Tokenizer(Path("m"), _train(control_symbols=symbols))
