"""Text to token ids and back, exactly."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mindllm_jax.tokenization.byte_level_model import Gpt2ExtensionModel
from mindllm_jax.tokenization.imported_model import ImportedModel, is_imported
from mindllm_jax.tokenization.sentencepiece_model import SPACE_MARK, SentencePieceModel

_PROBE = f"  a\t\r\n\n\n1234 <doc>{SPACE_MARK}é e\u0301 \u212b 你好 \N{GRINNING FACE}"


class Pieces(Protocol):
    """The interface of every kind of tokenizer file: pieces by id, and the ids of texts.

    Attributes:
        vocab_size, pad_id, doc_id, first_ids, symbols, ends, special_tokens, chat_template, missing_bytes: as of
            `Tokenizer`.
    """

    vocab_size: int
    pad_id: int
    doc_id: int
    first_ids: tuple[int, ...]
    symbols: dict[str, int]
    ends: tuple[int, ...]
    special_tokens: dict[str, str]
    chat_template: str
    missing_bytes: bytes

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of each text."""
        ...

    def bytes_of(self, id: int) -> bytes:
        """Returns the UTF-8 bytes of a piece; none for symbols."""
        ...

    def is_byte(self, id: int) -> bool:
        """Returns whether a piece is bytes that are not whole characters."""
        ...

    def name(self, id: int) -> str:
        """Returns the text by which a piece is displayed."""
        ...


class Tokenizer:
    """A tokenizer whose round trip is exact for every text: `decode(encode(text)) == text`.

    The file is a SentencePiece BPE model, GPT-2's BPE with added pieces (`gpt2_extension`), or an imported tokenizer
    (`imported_model`). The round trip of an imported one drops the bytes that its vocabulary lacks.

    Symbols (`<pad>`, `<doc>`, `<user>`, `<assistant>`; those of an imported one) are ids that no text produces: a text
    with the characters `<doc>` in it is encoded as these characters. `<doc>` both begins and ends a document, as
    GPT-2's `<|endoftext|>`, which is its name in such files.

    Attributes:
        path: the model file.
        model: its content.
        sha256: checksum of the model file; stores and checkpoints record it.
        vocab_size: V.
        pad_id, doc_id: the symbols that fill rows, and that begin and end documents.
        first_ids: the symbols that transformers' tokenizer of the exported files puts before a text: `<doc>`, as
            documents begin in training; what an imported tokenizer says, often nothing.
        symbols: ids of all symbols by name.
        ends: the symbols that end an answer.
        special_tokens: names of symbols by the variables of the chat template: `bos_token`, `eos_token`, `pad_token`.
        chat_template: the Jinja template that `batching.chat_format` renders.
        missing_bytes: bytes of UTF-8 that have no piece; none but in imported tokenizers.
        token_bytes: int32 [V], number of UTF-8 bytes of each piece; 0 for symbols.
        is_byte: bool [V], True for bytes of characters that have no piece.
    """

    def __init__(self, path: Path, model: bytes) -> None:
        self.path, self.model = path, model
        self.sha256 = hashlib.sha256(model).hexdigest()
        self._pieces: Pieces = _pieces(path, model)
        self.vocab_size, self.pad_id, self.doc_id = self._pieces.vocab_size, self._pieces.pad_id, self._pieces.doc_id
        self.first_ids, self.symbols, self.ends = self._pieces.first_ids, self._pieces.symbols, self._pieces.ends
        self.special_tokens, self.chat_template = self._pieces.special_tokens, self._pieces.chat_template
        self.missing_bytes = self._pieces.missing_bytes
        self._bytes = [self._pieces.bytes_of(id) for id in range(self.vocab_size)]
        self.token_bytes = np.array([len(piece) for piece in self._bytes], np.int32)
        self.is_byte = np.array([self._pieces.is_byte(id) for id in range(self.vocab_size)], np.bool_)
        names = "".join(self.symbols)
        if any(self.decode(self.encode(probe)) != probe for probe in (_PROBE, names + _PROBE)):
            raise ValueError(
                f"{path} changes text: it normalises, adds a space in front or lacks byte pieces; train one with"
                " launch/train_tokenizer.py"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads a model file.

        Raises:
            OSError: there is no such file.
            ValueError: it is not a tokenizer, lacks our symbols or its round trip is not exact.
            ImportError: it needs a library that is not installed.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no tokenizer {path}; train one with launch/train_tokenizer.py")
        return cls(path, path.read_bytes())

    def encode(self, text: str) -> np.ndarray:
        """Returns int32 ids of a text; never a symbol."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of each text, on all cores.

        Raises ValueError for a text that no UTF-8 can hold (half of a surrogate pair).
        """
        try:
            for text in texts:
                text.encode()
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise ValueError(f"the text has a lone surrogate (U+{code:04X}) at character {error.start}") from None
        return self._pieces.encode(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids without symbols. Bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the UTF-8 bytes of ids, which may end inside a character, as a stream of tokens does.

        Raises ValueError for an id outside the vocabulary.
        """
        ids = [int(id) for id in ids]
        for id in ids:
            if not 0 <= id < self.vocab_size:
                raise ValueError(f"token id {id} is not in the tokenizer's vocabulary of {self.vocab_size}")
        return b"".join(self._bytes[id] for id in ids)

    @property
    def text_ends(self) -> tuple[int, ...]:
        """The symbols that end a text: `<doc>` and the `eos_token`, which in some imported tokenizers are two."""
        eos = self.symbols.get(self.special_tokens.get("eos_token", ""), self.ends[0])
        return tuple(dict.fromkeys((self.doc_id, eos)))

    def piece(self, id: int) -> str:
        """Returns the text by which an id is displayed: its own, or the name of a symbol or byte."""
        return self._pieces.name(id)


def _pieces(path: Path, model: bytes) -> Pieces:
    # A SentencePiece model is a protocol buffer, which cannot begin like this.
    if not model.startswith(b"{"):
        return SentencePieceModel(path, model)
    return ImportedModel(path, model) if is_imported(model) else Gpt2ExtensionModel(path, model)
