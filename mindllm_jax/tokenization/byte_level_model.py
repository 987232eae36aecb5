"""A byte-level BPE model with added pieces that are matched as wholes: GPT-2's, extended with Chinese."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindllm_jax.tokenization.sentencepiece_model import ASSISTANT, PAD, USER

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only symbol, id 50,256; it begins and ends a document."""


class ByteLevelModel:
    """The `Pieces` of a tokenizer.json of the library tokenizers, as `gpt2_extension` writes it.

    Raises:
        ValueError: the content is not such a file or lacks a symbol; `path` is named in the message.
        ImportError: the library is not installed.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        try:
            import tokenizers
        except ImportError:
            raise ImportError(f"{path} needs the library tokenizers; install the extra hf: mindllm-jax[hf]") from None
        try:
            self._model = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json of the library tokenizers ({error})") from None
        # Symbols are never matched in plain text.
        self._model.encode_special_tokens = True
        self.vocab_size: int = self._model.get_vocab_size()
        self._added = self._model.get_added_tokens_decoder()
        pad, doc, user, assistant = (self._symbol(name, path) for name in (PAD, END_OF_TEXT, USER, ASSISTANT))
        self.symbols = (pad, doc, user, assistant)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of each text, on all cores."""
        encodings = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def bytes_of(self, id: int) -> bytes:
        """Returns the UTF-8 bytes of a piece; none for symbols."""
        if id in self._added:
            return b"" if id in self.symbols else self._added[id].content.encode()
        return bytes(_BYTES[character] for character in self._model.id_to_token(id) or "")

    def is_byte(self, id: int) -> bool:
        """Returns whether a piece is bytes that are not whole characters."""
        try:
            self.bytes_of(id).decode()
        except UnicodeDecodeError:
            return True
        return False

    def name(self, id: int) -> str:
        """Returns the text of a piece, or the name of a symbol."""
        return self._added[id].content if id in self._added else self.bytes_of(id).decode(errors="replace")

    def _symbol(self, name: str, path: Path) -> int:
        id = self._model.token_to_id(name)
        if id is None or id not in self._added or not self._added[id].special:
            raise ValueError(f"{path} has no symbol {name}; make a tokenizer with launch/train_tokenizer.py")
        return id


def _byte_of_character() -> dict[str, int]:
    """Returns the bytes by GPT-2's characters for them: printable bytes stand for themselves, the rest from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_of_character()
