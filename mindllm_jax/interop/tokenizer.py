"""Converts a tokenizer to the files of Hugging Face's libraries, with the same ids.

A SentencePiece BPE model becomes a BPE of the library tokenizers. Four things differ between the formats:

- A model orders its pieces, a BPE its merges. SentencePiece merges any two pieces whose concatenation is a piece, so
  all such pairs become merges, in the order of the pieces.
- `▁` stands for a space in a model's pieces. The converted pieces hold the space itself; a `▁` of a text then has no
  piece and becomes its three bytes, as with `Tokenizer`.
- Sequences of newlines, which SentencePiece removes before it merges, become added tokens: matched first, the longest
  first.
- Symbols become special tokens, which transformers matches in a text, as its chat templates need. Pass
  `split_special_tokens=True` for texts whose `<doc>` is plain text, as `Tokenizer` has it.

The converted tokenizer puts `<doc>` before a text (`Tokenizer.first_ids`), because documents begin with it in training;
`add_special_tokens=False` leaves it out.

Where several merges make the same piece, SentencePiece takes the leftmost first and a BPE the one listed first. They
could differ where two overlap; no such text is known, and `convert` compares.
"""

import json
from typing import TYPE_CHECKING

import sentencepiece

from mindllm_jax.tokenization.imported_model import is_imported, tokenizer_json
from mindllm_jax.tokenization.sentencepiece_model import SPACE_MARK
from mindllm_jax.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers


def hugging_face_files(tokenizer: Tokenizer, *, model_max_length: int | None = None) -> dict[str, str]:
    """Returns the converted files by name, the chat template among them.

    Args:
        tokenizer: of any kind; an imported one goes out with the ids that it came in with.
        model_max_length: the longest sequence of the model, which transformers then warns about.

    Raises ImportError when the library tokenizers is not installed.
    """
    return {
        "tokenizer.json": _tokenizer_json(tokenizer),
        "tokenizer_config.json": json.dumps(_settings(tokenizer, model_max_length), indent=1, ensure_ascii=False)
        + "\n",
        "chat_template.jinja": tokenizer.chat_template,
    }


def _tokenizer_json(tokenizer: Tokenizer) -> str:
    if is_imported(tokenizer.model):
        return tokenizer_json(tokenizer.model)
    try:
        from tokenizers import Tokenizer, processors
    except ImportError:
        raise ImportError(
            "writing a tokenizer for Hugging Face needs the library tokenizers; install mindllm-jax[hf]"
        ) from None
    # One that extends GPT-2's is in this format already.
    extends_gpt2 = tokenizer.model.startswith(b"{")
    converted = Tokenizer.from_str(tokenizer.model.decode()) if extends_gpt2 else _from_sentencepiece(tokenizer)
    symbols = [(tokenizer.piece(id), id) for id in tokenizer.first_ids]
    first = "".join(f"{name} " for name, _ in symbols)
    converted.post_processor = processors.TemplateProcessing(f"{first}$A", f"{first}$A {first}$B:1", symbols)
    return converted.to_str()


def _settings(tokenizer: Tokenizer, model_max_length: int | None) -> dict[str, object]:
    named = tokenizer.special_tokens
    others = [name for name in tokenizer.symbols if name not in named.values()]
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "additional_special_tokens": others,  # read by transformers 4 and 5
        "clean_up_tokenization_spaces": False,
    }
    if not is_imported(tokenizer.model):
        settings["add_bos_token"] = (
            True  # as the post-processor of tokenizer.json has it, for readers of this file alone
        )
    return settings if model_max_length is None else settings | {"model_max_length": model_max_length}


def _from_sentencepiece(tokenizer: Tokenizer) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, Tokenizer, decoders, models

    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(tokenizer.model)
    names = [model.id_to_piece(id).replace(SPACE_MARK, " ") for id in range(tokenizer.vocab_size)]
    text = {id for id in range(tokenizer.vocab_size) if tokenizer.token_bytes[id] > 0 and not tokenizer.is_byte[id]}
    newlines = [id for id in text if "\n" in names[id]]
    learned = {names[id]: id for id in sorted(text.difference(newlines))}
    converted = Tokenizer(
        models.BPE(
            vocab={name: id for id, name in enumerate(names)}, merges=_merges(learned, model), byte_fallback=True
        )
    )
    converted.add_tokens([AddedToken(names[id], normalized=False) for id in newlines])
    converted.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in tokenizer.symbols])
    converted.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return converted


def _merges(learned: dict[str, int], model: sentencepiece.SentencePieceProcessor) -> list[tuple[str, str]]:
    """Returns all pairs of learned pieces that make a learned piece, those of the best piece first."""
    merges: list[tuple[str, str]] = []
    for piece in sorted(learned, key=lambda piece: -model.get_score(learned[piece])):
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in pairs if left in learned and right in learned]
        merges += sorted(known, key=lambda pair: (learned[pair[0]], learned[pair[1]]))
    return merges
