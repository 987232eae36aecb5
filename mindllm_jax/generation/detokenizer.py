"""Text that grows token by token."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from mindllm_jax.tokenization.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Turns the tokens of one row into text that is settled: whole characters, and nothing of a stop string.

    A character may be spread over several tokens and a stop string may begin anywhere, so what could still become
    either is held back until the next tokens decide. `stopped` tells that a stop string was met; the rest is ignored.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = ()):
        self.stopped = False
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stop_strings if stop]
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def add(self, ids: Iterable[int]) -> str:
        """The text that these further tokens settle."""
        if self.stopped:
            return ""
        text = self._held + self._utf8.decode(self._tokenizer.decode_bytes(ids))
        # The one that is complete first, so that the cut does not depend on how many tokens come at a time.
        stops = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        self.stopped = bool(stops)
        end = min(stops)[1] if stops else len(text) - self._possible_stop(text)
        self._held = "" if stops else text[end:]
        return text[:end]

    def finish(self) -> str:
        """The text still held back, once no token follows; half a character becomes U+FFFD."""
        rest, self._held = self._held + self._utf8.decode(b"", final=True), ""
        return rest

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        lengths = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)
