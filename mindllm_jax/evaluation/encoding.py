"""Requests of benchmark tasks to token ids, as a protocol says.

A continuation is encoded with its context and cut off at the length of the context's own encoding (`together`, as
lm-evaluation-harness does for other models), or alone (`apart`). The two differ where a piece reaches over the seam,
in Chinese often. Then the model reads, with `together`, the tokens of the context alone and behind them those of the
whole text from their number on: characters at the seam may be read twice or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.chat_template import Message, chat_template
from mindllm_jax.evaluation.likelihood import Query
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.tokenization.tokenizer import Tokenizer

_AT_A_TIME = 4096  # texts encoded at a time, of which a few tokens each are kept
_TAG = "END-OF-THE-PREFILLED-TEXT "  # with a space, by which a template that trims is recognised


class Pair(NamedTuple):
    """A context and its continuation, encoded."""

    query: Query
    seam_differs: bool  # whether the protocol's other seam gives other tokens
    swallowed: bool  # whether the context's tokens cover the continuation, so that it was encoded apart


class Encoder:
    """Encodes requests for a tokenizer by a protocol. Raises ValueError as `Protocol.first_ids` does."""

    def __init__(self, tokenizer: Tokenizer, protocol: Protocol) -> None:
        self.tokenizer, self.protocol = tokenizer, protocol
        self.first, self.prefix = protocol.first_ids(tokenizer), protocol.prefix_id(tokenizer)
        names = sorted(tokenizer.symbols, key=len, reverse=True) if protocol.chat_template else []
        self._symbol = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of texts without the first token."""
        return [ids.tolist() for ids in self._encode(texts)]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of prompts, at least one id each."""
        return [
            [*self._before(text), *ids] or [self.prefix] for text, ids in zip(texts, self.texts(texts), strict=True)
        ]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        """Returns the query of each (context, continuation); queries with the same context share its list of ids.

        White space at the end of a context goes to the continuation, as in lm-evaluation-harness, because pieces begin
        with a space and do not end in one. Where the context's tokens cover all of the continuation, which class `hf`
        refuses, the continuation is encoded apart. A continuation without characters has no ids.
        """
        stems = {context: context.rstrip() for context, _ in pairs}
        contexts = dict(zip(stems, self.prompts(list(stems.values())), strict=True))
        if "" in contexts:
            contexts[""] = [self.prefix]
        rests = [context[len(stems[context]) :] + continuation for context, continuation in pairs]
        unique = list(dict.fromkeys(rests))
        alone = dict(zip(unique, self.texts(unique), strict=True))
        wholes = self._in_parts(stems[context] + rest for (context, _), rest in zip(pairs, rests, strict=True))
        encoded: list[Pair] = []
        for (context, _), rest, whole in zip(pairs, rests, wholes, strict=True):
            stem = stems[context]
            # An empty context has the first token or the prefix, which is none of the whole text's ids.
            together = whole[len(contexts[context]) - len(self._before(stem)) if stem else 0 :].tolist()
            apart = alone[rest]
            swallowed = bool(apart) and not together
            ids = apart if swallowed or self.protocol.seam == "apart" else together
            encoded.append(Pair(Query(contexts[context], ids), together != apart, swallowed))
        return encoded

    def _in_parts(self, texts: Iterator[str]) -> Iterator[np.ndarray]:
        """Yields the ids of texts, without holding all of either."""
        while some := list(islice(texts, _AT_A_TIME)):
            yield from self._encode(some)

    def _before(self, text: str) -> list[int]:
        """Returns the first token, unless a rendered chat template begins with it."""
        name = "".join(map(self.tokenizer.piece, self.first))
        return [] if self._symbol is not None and name and text.startswith(name) else self.first

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32 ids of texts; names of symbols are symbols in rendered chat templates alone."""
        if self._symbol is None:
            return self.tokenizer.encode_batch(texts)
        # Every second part is a symbol.
        split = [self._symbol.split(text) for text in texts]
        between = iter(self.tokenizer.encode_batch([part for parts in split for part in parts[::2]]))
        symbols = self.tokenizer.symbols
        return [
            np.concatenate(
                [
                    np.array([symbols[part]], np.int32) if number % 2 else next(between)
                    for number, part in enumerate(parts)
                ]
            )
            for parts in split
        ]


def chat_text(tokenizer: Tokenizer, messages: Sequence[Message], *, prefilled: bool = False) -> str:
    """Returns the text of a rendered chat template: the prompt for an answer to some messages.

    prefilled: the last message is the beginning of the answer, and the text ends with it.

    Raises ValueError when the template refuses the messages.
    """
    template = chat_template(tokenizer)
    if not prefilled:
        parts = template.prompt(messages)
    else:
        *before, last = messages
        parts = template.conversation([*before, Message(last.role, last.content + _TAG)])
    text = "".join(part.text if part.symbol is None else tokenizer.piece(int(part.symbol[0])) for part in parts)
    if not prefilled:
        return text
    end = text.rindex(_TAG.rstrip())
    return text[:end] if text.startswith(_TAG, end) else text[:end].rstrip()
