"""Text to token ids and back, exactly."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

PAD, DOC, USER, ASSISTANT = "<pad>", "<doc>", "<user>", "<assistant>"

_SPACE_MARK = "\u2581"  # ▁, how SentencePiece writes a space inside a piece

_PROBE = f"  a\t\r\n\n\n1234 <doc>{_SPACE_MARK}é 你好 {DOC}{USER}\N{GRINNING FACE}"


class Tokenizer:
    """A SentencePiece BPE model under which every text comes back as it was: `decode(encode(text)) == text`.

    Symbols (`<pad>`, `<doc>`, `<user>`, `<assistant>`) are ids that no text produces: a text with the characters
    `<doc>` in it is encoded as these characters. `<doc>` both begins and ends a document, as `<|endoftext|>` in GPT-2.

    SentencePiece writes a space as `▁` (U+2581) and cannot tell the two apart afterwards, so a `▁` of the text is
    encoded as its three bytes.

    Attributes:
        path: the model file.
        model: its content.
        sha256: of the model file; stores and checkpoints remember it.
        vocab_size: V.
        pad_id, doc_id, user_id, assistant_id: the symbols.
        token_bytes: int32 [V], the UTF-8 bytes each id stands for; 0 for symbols.
    """

    def __init__(self, path: Path, model: bytes) -> None:
        self.path, self.model = path, model
        self.sha256 = hashlib.sha256(model).hexdigest()
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError:
            raise ValueError(f"{path} is not a SentencePiece model (or is cut off)") from None
        self.vocab_size: int = self._pieces.get_piece_size()
        self._bytes = [self._bytes_of(id) for id in range(self.vocab_size)]
        self.token_bytes = np.array([len(piece) for piece in self._bytes], np.int32)
        self.pad_id, self.doc_id, self.user_id, self.assistant_id = map(self._symbol, (PAD, DOC, USER, ASSISTANT))
        mark = [self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE_MARK.encode()]
        self._space_mark = np.array(mark, np.int32)
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise ValueError(
                f"{path} changes text: it normalises, adds a space in front or lacks byte pieces; train one with"
                " launch/train_tokenizer.py"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads a model file.

        Raises:
            OSError: there is no such file.
            ValueError: it is not a SentencePiece model, lacks our symbols or does not restore text exactly.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no tokenizer {path}; train one with launch/train_tokenizer.py")
        return cls(path, path.read_bytes())

    def encode(self, text: str) -> np.ndarray:
        """int32 ids of a text; never a symbol."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 ids of each text, on all cores.

        Raises ValueError for a text that no UTF-8 can hold (half of a surrogate pair).
        """
        try:
            # Split at the mark so that it never reaches SentencePiece; nearly every text is one part.
            parts = [text.encode().split(_SPACE_MARK.encode()) for text in texts]
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise ValueError(f"the text has a lone surrogate (U+{code:04X}) at character {error.start}") from None
        ids = iter(self._pieces.encode([part for text in parts for part in text], num_threads=-1))
        return [self._joined([next(ids) for _ in text]) for text in parts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, symbols left out. Bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 bytes of ids, which may end inside a character; what a stream of tokens is decoded from.

        Raises ValueError for an id outside the vocabulary.
        """
        ids = [int(id) for id in ids]
        for id in ids:
            if not 0 <= id < self.vocab_size:
                raise ValueError(f"token id {id} is not in the tokenizer's vocabulary of {self.vocab_size}")
        return b"".join(self._bytes[id] for id in ids)

    def piece(self, id: int) -> str:
        """How one id is shown to people: its text, or the name of a symbol or byte."""
        return self._pieces.id_to_piece(id).replace(_SPACE_MARK, " ")

    def _joined(self, parts: list[list[int]]) -> np.ndarray:
        arrays = [np.asarray(parts[0], np.int32)]
        for part in parts[1:]:
            arrays += [self._space_mark, np.asarray(part, np.int32)]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _bytes_of(self, id: int) -> bytes:
        model = self._pieces
        if model.is_control(id) or model.is_unknown(id):
            return b""
        piece = model.id_to_piece(id)
        return bytes([int(piece[3:5], 16)]) if model.is_byte(id) else piece.replace(_SPACE_MARK, " ").encode()

    def _symbol(self, name: str) -> int:
        id = self._pieces.piece_to_id(name)
        # Only control pieces are never matched in plain text.
        if not (0 <= id < self.vocab_size and self._pieces.is_control(id)):
            raise ValueError(f"{self.path} has no symbol {name}; train a tokenizer with launch/train_tokenizer.py")
        return id
