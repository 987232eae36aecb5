"""Incremental detokenization: the text of a row, token by token."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from mindllm_jax.tokenization.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Turns the tokens of one row into final text: complete characters, without stop strings.

    A character may span several tokens and a stop string may begin anywhere, so text that could still become either is
    pending until the next tokens decide. After a stop string `stopped` is True, and further tokens are ignored.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = ()):
        self.stopped = False
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stop_strings if stop]
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""

    def add(self, ids: Iterable[int]) -> str:
        """Returns the text that becomes final with these tokens."""
        if self.stopped:
            return ""
        text = self._pending + self._utf8.decode(self._tokenizer.decode_bytes(ids))
        # The one that is complete first, so that the cut does not depend on the number of tokens per call.
        stops = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        self.stopped = bool(stops)
        end = min(stops)[1] if stops else len(text) - self._possible_stop(text)
        self._pending = "" if stops else text[end:]
        return text[:end]

    def finish(self) -> str:
        """Returns the pending text, when no token follows; an incomplete character becomes U+FFFD."""
        rest, self._pending = self._pending + self._utf8.decode(b"", final=True), ""
        return rest

    def _possible_stop(self, text: str) -> int:
        """Returns the length of the longest suffix of `text` that is a prefix of a stop string."""
        longest = len(text) + 1  # a stop string may be of any length
        lengths = (n for stop in self._stops for n in range(1, min(len(stop), longest)) if text.endswith(stop[:n]))
        return max(lengths, default=0)
