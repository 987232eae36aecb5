"""Byte-level BPE models with added pieces that are matched as wholes: any, and GPT-2's extended with Chinese."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindllm_jax.tokenization.mindllm_format import ASSISTANT, CHAT_TEMPLATE, END_OF_TEXT, PAD, USER


class ByteLevelModel:
    """Pieces and ids of a tokenizer.json of the library tokenizers.

    Attributes:
        vocab_size: V, the highest id and one.
        symbols: ids of the special tokens by name, which no text produces.
        missing_bytes: the bytes of UTF-8 without a piece, which the library leaves out of a text.

    Raises:
        ValueError: the content is not such a file, or not of byte-level BPE; `path` is named in the message.
        ImportError: the library is not installed.
    """

    def __init__(self, path: Path, content: str) -> None:
        try:
            import tokenizers
        except ImportError:
            raise ImportError(f"{path} needs the library tokenizers; install the extra hf: mindllm-jax[hf]") from None
        try:
            self._model = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json of the library tokenizers ({error})") from None
        self._model.no_padding()
        self._model.no_truncation()
        # Symbols are never matched in plain text.
        self._model.encode_special_tokens = True
        vocab = self._model.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(vocab.values(), default=-1) + 1
        if self.vocab_size > 2 * len(vocab):
            raise ValueError(f"{path} has {len(vocab):,} pieces and ids up to {self.vocab_size - 1:,}: it is damaged")
        self._added = self._model.get_added_tokens_decoder()
        self.symbols = {piece.content: id for id, piece in self._added.items() if piece.special}
        known = {_BYTES[piece] for piece in vocab if piece in _BYTES}
        self.missing_bytes = bytes(sorted(_UTF8 - known))
        self._bytes = [self._bytes_of(id, path) for id in range(self.vocab_size)]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of each text, on all cores."""
        encodings = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def symbols_before(self) -> tuple[int, ...]:
        """Returns the ids that the post-processor of the file puts before a text."""
        ids = self._model.encode("a").ids
        bare = self._model.encode("a", add_special_tokens=False).ids
        return tuple(ids[: ids.index(bare[0])] if bare else ())

    def bytes_of(self, id: int) -> bytes:
        """Returns the UTF-8 bytes of a piece; none for symbols."""
        return self._bytes[id]

    def is_byte(self, id: int) -> bool:
        """Returns whether a piece is bytes that are not whole characters."""
        try:
            self._bytes[id].decode()
        except UnicodeDecodeError:
            return True
        return False

    def name(self, id: int) -> str:
        """Returns the text of a piece, or the name of a symbol."""
        return self._added[id].content if id in self._added else self._bytes[id].decode(errors="replace")

    def _bytes_of(self, id: int, path: Path) -> bytes:
        if id in self._added:
            return b"" if self._added[id].special else self._added[id].content.encode()
        piece = self._model.id_to_token(id) or ""
        try:
            return bytes(_BYTES[character] for character in piece)
        except KeyError as error:
            raise ValueError(
                f"{path} is not a byte-level BPE: {error} in its piece {piece!r} (id {id}) stands for no byte"
            ) from None


class Gpt2ExtensionModel(ByteLevelModel):
    """The `Pieces` of a tokenizer.json that `gpt2_extension` writes.

    Raises:
        ValueError: the content is not such a file or lacks a symbol; `path` is named in the message.
        ImportError: the library tokenizers is not installed.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path, content.decode(errors="replace"))
        for name in (PAD, END_OF_TEXT, USER, ASSISTANT):
            if name not in self.symbols:
                raise ValueError(
                    f"{path} has no symbol {name}; make a tokenizer with launch/train_tokenizer.py. Another project's"
                    " is imported with its model by launch/convert.py (Convert.source)"
                )
        self.pad_id, self.doc_id = self.symbols[PAD], self.symbols[END_OF_TEXT]
        self.first_ids, self.ends = (self.doc_id,), (self.doc_id, self.symbols[USER])
        self.special_tokens = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD}
        self.chat_template = CHAT_TEMPLATE


def _byte_of_character() -> dict[str, int]:
    """Returns the bytes by GPT-2's characters for them: printable bytes stand for themselves, the rest from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_of_character()
_UTF8 = set(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
"""The bytes that UTF-8 has."""
