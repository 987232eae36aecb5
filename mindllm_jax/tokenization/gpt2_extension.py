"""GPT-2's tokenizer extended with Chinese pieces, as the 1.3B model's, whose checkpoint is GPT-Neo's.

GPT-2's ids stay, so that a model trained with them can be trained further. The pieces follow, then `<pad>`, `<user>`
and `<assistant>`. A piece is matched as a whole wherever it occurs in a text, the longest first, before GPT-2's BPE
splits the rest. Pieces consist of Han characters and full-width punctuation, so text without these has GPT-2's ids.

The number of pieces in the published model is inferred; their choice is unknown (docs/paper.md).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindllm_jax.tokenization.gpt2_files import Gpt2Files
from mindllm_jax.tokenization.mindllm_format import ASSISTANT, END_OF_TEXT, PAD, USER
from mindllm_jax.tokenization.sentencepiece_model import SentencePieceModel
from mindllm_jax.tokenization.sentencepiece_training import FIXED_PIECES, HAN, TooLittleText, train_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SYMBOLS = (PAD, USER, ASSISTANT)

SMALLEST = 50_257 + len(_SYMBOLS)
"""Size of a vocabulary without added pieces: GPT-2's and the symbols."""

# Sequences of Han, and each full-width mark (CJK punctuation, full-width forms). Curly quotes and dashes occur in
# English text too and stay GPT-2's.
_CHINESE = re.compile(f"[{HAN}]+|[\u3000-\u303f\uff00-\uffef]")


def gpt2_tokenizer(files: Gpt2Files) -> "Tokenizer":
    """Builds GPT-2's own tokenizer.

    Raises ImportError when the library tokenizers is not installed.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    except ImportError:
        raise ImportError("TrainTokenizer.extend needs the library tokenizers; install mindllm-jax[hf]") from None
    vocab = json.loads(files.encoder)
    pairs = (line.split() for line in files.merges.decode().splitlines()[1:])
    merges = [(left, right) for left, right in pairs]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return tokenizer


def extend_gpt2(
    gpt2: "Tokenizer", texts: Sequence[str], *, vocab_size: int, character_share: float, han_run: int
) -> bytes:
    """Returns a tokenizer.json of the library tokenizers with `vocab_size` ids; settings as in `TrainTokenizer`.

    Raises ValueError when the texts hold too little Chinese.
    """
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(gpt2.to_str())
    size = tokenizer.get_vocab_size()
    known = {tokenizer.decode([id]) for id in range(size)}
    count = vocab_size - size - len(_SYMBOLS)
    pieces = _chinese_pieces(texts, known, count, character_share, han_run)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in _SYMBOLS])
    return tokenizer.to_str().encode()


def _chinese_pieces(
    texts: Sequence[str], known: set[str], count: int, character_share: float, han_run: int
) -> list[str]:
    """Returns `count` pieces of the Chinese in the texts that are not `known`, as SentencePiece's BPE learns them."""
    chinese = ["\n".join(_CHINESE.findall(text)) for text in texts]
    # It also learns a space, and pieces that GPT-2 has already.
    spare = 1 + sum(_CHINESE.fullmatch(piece) is not None for piece in known)
    vocab_size = FIXED_PIECES + spare + count
    try:
        content = train_model(chinese, vocab_size=vocab_size, character_share=character_share, han_run=han_run)
    except TooLittleText:
        size = sum(len(text.encode()) for text in chinese)
        raise TooLittleText(
            f"{size:,} bytes of Chinese are too few to learn {count:,} pieces that GPT-2 has not, as"
            " TrainTokenizer.vocab_size asks for: give more Chinese text or lower it"
        ) from None
    model = SentencePieceModel(Path("the pieces of Chinese"), content)
    learned = [model.name(id) for id in range(FIXED_PIECES, vocab_size)]
    return [piece for piece in learned if piece != " " and piece not in known][:count]
