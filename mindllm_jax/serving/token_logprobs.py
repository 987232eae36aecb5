"""Log-probabilities of tokens in the shapes of chat and of text completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from mindllm_jax.generation.requests import TokenLogprob
from mindllm_jax.tokenization.tokenizer import Tokenizer


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Returns `logprobs` of a chat completion's choice; half of a character shows as U+FFFD."""

    def entry(id: int, logprob: float) -> dict[str, Any]:
        content = tokenizer.decode_bytes([id])
        token = content.decode(errors="replace") if content else tokenizer.piece(id)
        return {"token": token, "logprob": logprob, "bytes": list(content) if content else None}

    entries = [
        entry(token.id, token.logprob) | {"top_logprobs": [entry(*other) for other in token.top]} for token in logprobs
    ]
    return {"content": entries, "refusal": None}


class TextLogprobs:
    """Makes `logprobs` of a text completion's choice, piece by piece: its offsets count from the first."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def add(self, logprobs: Sequence[TokenLogprob]) -> dict[str, list[Any]]:
        """Returns tokens, token_logprobs, top_logprobs and text_offset of the tokens that follow."""
        offsets: list[int] = []
        for token in logprobs:
            content, before = self._tokenizer.decode_bytes([token.id]), self._offset
            self._offset += len(self._utf8.decode(content))
            # A token of whole characters ends the half of one that may stand before it.
            offsets.append(self._offset - len(content.decode()) if _is_text(content) else before)
        return {
            "tokens": [self._name(token.id) for token in logprobs],
            "token_logprobs": [token.logprob for token in logprobs],
            "top_logprobs": [{self._name(id): logprob for id, logprob in token.top} for token in logprobs],
            "text_offset": offsets,
        }

    def _name(self, id: int) -> str:
        """Returns a token's text; the legacy form `bytes:\\xe4` where it cuts a character, a symbol's name."""
        content = self._tokenizer.decode_bytes([id])
        if not content:
            return self._tokenizer.piece(id)
        return content.decode() if _is_text(content) else "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
