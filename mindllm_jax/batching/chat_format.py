"""The chat format: token ids and loss mask of the turns of a conversation.

    <doc><user>\\n{question}\\n<assistant>\\n{answer}<doc><user>\\n{question}\\n<assistant>\\n{answer}<doc>

The prompt of the published MindLLM checkpoint (docs/paper.md), between our document symbols. `<doc>` ends an answer;
the turns of a conversation are one segment with running positions, so a later turn attends to the earlier ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.tokenization.tokenizer import Tokenizer


class Turn(NamedTuple):
    """One question and its answer."""

    question: str
    answer: str


class EncodedConversation(NamedTuple):
    """Token ids of a conversation.

    Attributes:
        ids: int32 [T].
        loss_mask: bool [T], True on the assistant's tokens: the answers and the `<doc>` that ends each.
    """

    ids: np.ndarray
    loss_mask: np.ndarray


def encode_conversations(tokenizer: Tokenizer, conversations: Sequence[Sequence[Turn]]) -> list[EncodedConversation]:
    """Encodes the turns of each conversation, on all cores."""
    texts = [text for turns in conversations for turn in turns for text in turn]
    # Each part is encoded separately: otherwise a newline at the end of a question, or the start of an answer, would
    # join ours in one piece, and a prompt would not be a prefix of its conversation.
    newline, *encoded = tokenizer.encode_batch(["\n", *texts])
    rest = iter(encoded)
    doc, user, assistant = (
        np.array([id], np.int32)
        for id in (tokenizer.doc_id, tokenizer.symbols["<user>"], tokenizer.symbols["<assistant>"])
    )

    def encode(turns: Sequence[Turn]) -> EncodedConversation:
        parts, loss_mask = [doc], [False]
        for _ in turns:
            question, answer = next(rest), next(rest)
            parts += [user, newline, question, newline, assistant, newline, answer, doc]
            loss_mask += [False] * 6 + [True] * 2
        return EncodedConversation(np.concatenate(parts), np.repeat(loss_mask, [len(part) for part in parts]))

    return [encode(turns) for turns in conversations]


def encode_prompt(tokenizer: Tokenizer, turns: Sequence[Turn], question: str) -> np.ndarray:
    """Returns the prompt for an answer to `question` after some turns, int32 [T].

    It is a prefix of the conversation of these turns and the answered question.
    """
    (conversation,) = encode_conversations(tokenizer, [[*turns, Turn(question, "")]])
    return conversation.ids[:-1]
