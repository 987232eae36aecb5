"""The chat format: token ids and loss mask of conversations, as the tokenizer's chat template has them.

The ids equal those of transformers' `apply_chat_template`, except that names of symbols in a message are text. The
messages of a conversation are one segment with running positions, so a later one attends to the earlier ones.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.chat_template import Message, Part, chat_template
from mindllm_jax.tokenization.tokenizer import Tokenizer


class EncodedConversation(NamedTuple):
    """Token ids of a conversation.

    Attributes:
        ids: int32 [T].
        loss_mask: bool [T], True on the assistant's tokens: the answers and the symbol that ends each.
    """

    ids: np.ndarray
    loss_mask: np.ndarray


def encode_conversations(tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]]) -> list[EncodedConversation]:
    """Encodes the messages of each conversation, on all cores.

    Raises ValueError when the chat template refuses a conversation, as one with roles out of order.
    """
    template = chat_template(tokenizer)
    return _encode(tokenizer, [template.conversation(messages) for messages in conversations])


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> np.ndarray:
    """Returns the prompt for an answer to some messages, int32 [T].

    Raises ValueError as `encode_conversations` does.
    """
    (prompt,) = _encode(tokenizer, [chat_template(tokenizer).prompt(messages)])
    return prompt.ids


def _encode(tokenizer: Tokenizer, conversations: Sequence[Sequence[Part]]) -> list[EncodedConversation]:
    """Encodes conversations, each text between two symbols as a whole."""
    texts = iter(tokenizer.encode_batch([part.text for parts in conversations for part in parts if part.text]))
    ids, counts, values, borders = [_NO_IDS], [0], [False], [0]
    for parts in conversations:
        length = borders[-1]
        for part in parts:
            some = next(texts) if part.symbol is None else part.symbol
            done, size = 0, len(some)
            for span in part.spans:
                first, last = (0, 1) if part.symbol is not None else _tokens(tokenizer, part.text, some, *span)
                counts += (max(first - done, 0), last - max(first, done))
                values += (False, True)
                done = last
            if done < size:
                counts.append(size - done)
                values.append(False)
            ids.append(some)
            length += size
        borders.append(length)
    all_ids, loss_mask = np.concatenate(ids), np.repeat(values, counts)
    return [EncodedConversation(all_ids[begin:end], loss_mask[begin:end]) for begin, end in pairwise(borders)]


_NO_IDS = np.empty(0, np.int32)


def _tokens(tokenizer: Tokenizer, text: str, ids: np.ndarray, begin: int, end: int | None) -> tuple[int, int]:
    """Returns the first and one behind the last token that hold a byte of some characters of a text."""
    first = 0
    if begin:
        size = _size(tokenizer, text[:begin])
        # Every token has a byte, so no more can end there.
        first = int(tokenizer.token_bytes[ids[:size]].cumsum().searchsorted(size, "right"))
    if end is None:
        return first, len(ids)
    size = _size(tokenizer, text[:end])
    last = int(tokenizer.token_bytes[ids[:size]].cumsum().searchsorted(size, "left")) + 1
    return first, last


def _size(tokenizer: Tokenizer, text: str) -> int:
    """Returns the number of bytes that the ids of a text stand for."""
    return len(text.encode().translate(None, tokenizer.missing_bytes))
