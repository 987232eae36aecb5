"""A SentencePiece BPE model: pieces by id, and the ids of texts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from mindllm_jax.tokenization.mindllm_format import ASSISTANT, CHAT_TEMPLATE, DOC, PAD, USER

SPACE_MARK = "\u2581"
"""▁, the character by which SentencePiece writes a space inside a piece."""


class SentencePieceModel:
    """The `Pieces` of a SentencePiece model with byte fallback.

    SentencePiece writes a space as `▁` (U+2581) and cannot tell the two apart afterwards, so a `▁` of the text is
    encoded as its three bytes.

    Raises ValueError when the content is not a SentencePiece model or lacks our symbols; the message names `path`.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(content)
        except RuntimeError:
            raise ValueError(f"{path} is not a SentencePiece model (or is cut off)") from None
        self.vocab_size: int = self._pieces.get_piece_size()
        self.symbols = {name: self._symbol(name, path) for name in (PAD, DOC, USER, ASSISTANT)}
        self.pad_id, self.doc_id = self.symbols[PAD], self.symbols[DOC]
        self.first_ids, self.ends = (self.doc_id,), (self.doc_id, self.symbols[USER])
        self.special_tokens = {"bos_token": DOC, "eos_token": DOC, "pad_token": PAD}
        self.chat_template = CHAT_TEMPLATE
        self.missing_bytes = b""
        mark = [self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
        self._space_mark = np.array(mark, np.int32)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of each text, on all cores."""
        # Split at the mark so that it never reaches SentencePiece; nearly every text is one part.
        parts = [text.split(SPACE_MARK) for text in texts]
        ids = iter(self._pieces.encode([part for text in parts for part in text], num_threads=-1))
        return [self._joined(ids, len(text)) for text in parts]

    def bytes_of(self, id: int) -> bytes:
        """Returns the UTF-8 bytes of a piece; none for symbols."""
        model = self._pieces
        if model.is_control(id) or model.is_unknown(id):
            return b""
        piece = model.id_to_piece(id)
        return bytes([int(piece[3:5], 16)]) if model.is_byte(id) else piece.replace(SPACE_MARK, " ").encode()

    def is_byte(self, id: int) -> bool:
        """Returns whether a piece is one byte of a character that has no piece."""
        return self._pieces.is_byte(id)

    def name(self, id: int) -> str:
        """Returns the text of a piece, or the name of a symbol or byte."""
        return self._pieces.id_to_piece(id).replace(SPACE_MARK, " ")

    def _joined(self, ids: Iterator[list[int]], parts: int) -> np.ndarray:
        arrays = [np.asarray(next(ids), np.int32)]
        for _ in range(parts - 1):
            arrays += [self._space_mark, np.asarray(next(ids), np.int32)]
        return arrays[0] if parts == 1 else np.concatenate(arrays)

    def _symbol(self, name: str, path: Path) -> int:
        id = self._pieces.piece_to_id(name)
        # Only control pieces are never matched in plain text.
        if not (0 <= id < self.vocab_size and self._pieces.is_control(id)):
            raise ValueError(f"{path} has no symbol {name}; train a tokenizer with launch/train_tokenizer.py")
        return id
