"""Trains a SentencePiece BPE model on texts, with bounds on its pieces."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import sentencepiece

from mindllm_jax.tokenization.mindllm_format import ASSISTANT, DOC, PAD, USER

# By default SentencePiece never learns a newline and spends a byte piece on each, 6 % of all tokens.
NEWLINE_RUNS = tuple("\n" * n for n in (1, 2, 3, 4))

FIXED_PIECES = 1 + 4 + len(NEWLINE_RUNS) + 256
"""Number of pieces that are not learned: <unk>, the symbols, the newline runs, the bytes."""

HAN = "々〇\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""A character set for regular expressions: Han, and the kana that SentencePiece joins with it."""

# Characters that SentencePiece reserves in training; in a text they become byte pieces.
_RESERVED = "\0\t\u2581\u2585"

# SentencePiece drops sentences of more than 4,192 bytes, with one warning; a character takes at most 4.
_SENTENCE_CHARACTERS = 1000


class TooLittleText(ValueError):
    """A vocabulary is larger than what a text teaches."""


def train_model(texts: Sequence[str], *, vocab_size: int, character_share: float, han_run: int) -> bytes:
    """Returns the serialized SentencePiece model of the texts; settings as in `TrainTokenizer`.

    Raises ValueError when the text is too little for the vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts, vocab_size, character_share, han_run),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,  # rare characters were taken out of the sentences
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            add_dummy_prefix=False,
            # Control symbols are never matched in plain text; user-defined ones are, everywhere.
            control_symbols=[DOC, USER, ASSISTANT],
            user_defined_symbols=list(NEWLINE_RUNS),
            pad_id=0,
            pad_piece=PAD,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        size = sum(len(text.encode()) for text in texts)
        raise TooLittleText(
            f"SentencePiece learned no vocabulary of {vocab_size} in {size:,} bytes of text; give more text or"
            f" lower TrainTokenizer.vocab_size ({error})"
        ) from None
    return model.getvalue()


def _sentences(texts: Sequence[str], vocab_size: int, character_share: float, han_run: int) -> Iterator[str]:
    """Yields the sentences to train on. No piece crosses the end of a sentence, so sentences end where pieces must."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    # A space without a piece would become the bytes of its mark, and could not be distinguished from the mark itself.
    counts[" "] = counts.total() + 1
    yield " "
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    room = min(round(character_share * vocab_size), vocab_size - FIXED_PIECES)
    ends = str.maketrans(dict.fromkeys((*frequent[room:], *_RESERVED), "\n"))
    full_run = re.compile(f"([{HAN}]{{{han_run}}})(?=[{HAN}])")
    for text in texts:
        for sentence in full_run.sub("\\1\n", text.translate(ends)).split("\n"):
            for start in range(0, len(sentence), _SENTENCE_CHARACTERS):
                yield sentence[start : start + _SENTENCE_CHARACTERS]
