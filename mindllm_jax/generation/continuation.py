"""One prompt and its continuation: what is checked before, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mindllm_jax.generation.detokenizer import IncrementalDetokenizer
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.tokenization.tokenizer import Tokenizer

Finish = Literal["end", "stop", "length", "failed"]  # by an end token, a stop string, max_tokens, or NaN

NOT_FINITE = -2
"""In place of a token where the model's logits are NaN or infinite."""


def check_prompt(
    ids: Sequence[int] | np.ndarray,
    vocab_size: int,
    longest: int,
    new_tokens: int,
    *,
    name: str = "the prompt",
    limit: str = "Model.max_seq_len",
    truncate: bool = False,
) -> int:
    """Returns the tokens of a prompt that `new_tokens` fit behind; `limit` is the setting that says `longest`.

    Raises ValueError when there are none, for an empty prompt or a token outside the vocabulary, and, unless
    `truncate`, for a prompt that is longer.
    """
    room = longest - new_tokens
    if room < 1:
        raise ValueError(
            f"Sampling.max_tokens = {new_tokens} leaves no room for a prompt in {limit} = {longest}: ask for fewer "
            "tokens"
        )
    if not len(ids):
        raise ValueError(f"{name} is empty; start a document with the token <doc>")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(f"{name} has a token outside the vocabulary of {vocab_size}")
    if len(ids) > room and not truncate:
        raise ValueError(
            f"{name} has {len(ids)} tokens, and {new_tokens} new ones (Sampling.max_tokens) do not fit behind it in "
            f"{limit} = {longest}: shorten it to {room}, or ask for fewer new tokens"
        )
    return room


class Continuation:
    """The new tokens of a prompt and their text, until an end token, a stop string, or `max_tokens`.

    Attributes:
        tokens: the new tokens without the end token, up to the one that completes a stop string.
        text: up to the stop string.
        finish: None while more tokens are wanted.
    """

    def __init__(
        self, tokenizer: Tokenizer, max_tokens: int, stop_ids: Sequence[int], stop_strings: Sequence[str] = ()
    ) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.finish: Finish | None = None
        self.max_tokens, self.stop_ids = max_tokens, tuple(stop_ids)
        self._detokenizer = IncrementalDetokenizer(tokenizer, stop_strings)

    def add(self, ids: list[int]) -> str:
        """Adds new tokens, of which only the last may be an end token or NOT_FINITE; returns the text that is final."""
        if self.finish is not None:
            return ""
        ended, failed = ids[-1] in self.stop_ids, ids[-1] == NOT_FINITE
        piece = ""
        for id in ids[:-1] if ended or failed else ids:
            self.tokens.append(id)
            piece += self._detokenizer.add([id])
            if self._detokenizer.stopped:
                break
        if self._detokenizer.stopped:
            self.finish = "stop"
        elif failed or ended or len(self.tokens) == self.max_tokens:
            self.finish = "failed" if failed else "end" if ended else "length"
            piece += self._detokenizer.finish()
        self.text += piece
        return piece

    def not_finite(self) -> NotFiniteError:
        """Returns the error of a continuation that has failed."""
        return NotFiniteError(f"the logits of new token {len(self.tokens) + 1} are not finite")
