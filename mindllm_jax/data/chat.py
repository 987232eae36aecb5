"""The chat format: how the turns of a conversation become token ids, and which of them carry loss.

    <doc><user>\\n{question}\\n<assistant>\\n{answer}<doc><user>\\n{question}\\n<assistant>\\n{answer}<doc>

The prompt of the published MindLLM checkpoint (docs/paper.md), between our document symbols. `<doc>` ends an answer;
the turns of a conversation still are one segment with running positions, so a later turn sees the earlier ones.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.data.tokenizer import Tokenizer


class Turn(NamedTuple):
    """One question and its answer."""

    question: str
    answer: str


def encode_conversation(tokenizer: Tokenizer, turns: Iterable[Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of a conversation, int32 [T], and which of them a model learns to say, bool [T].

    Loss is on the tokens of the answers and the `<doc>` that ends each, not on the questions and marks around them.
    """
    ids, said = [np.array([tokenizer.doc_id], np.int32)], [np.zeros(1, bool)]
    for question, answer in turns:
        asked = _question(tokenizer, question)
        told = np.append(tokenizer.encode(answer), np.int32(tokenizer.doc_id))
        ids += [asked, told]
        said += [np.zeros(len(asked), bool), np.ones(len(told), bool)]
    return np.concatenate(ids), np.concatenate(said)


def encode_prompt(tokenizer: Tokenizer, turns: Sequence[Turn], question: str) -> np.ndarray:
    """Token ids, int32 [T], after which a model says its answer to `question`, `turns` having gone before.

    They are a prefix of what `encode_conversation` gives for the turns and the answered question.
    """
    return np.concatenate([encode_conversation(tokenizer, turns)[0], _question(tokenizer, question)])


def _question(tokenizer: Tokenizer, question: str) -> np.ndarray:
    # The parts are encoded one by one: otherwise a newline at the end of a question, or the start of an answer, would
    # join ours in one piece, and a prompt would not be a prefix of its conversation.
    newline = tokenizer.encode("\n")
    user, assistant = np.array([tokenizer.user_id], np.int32), np.array([tokenizer.assistant_id], np.int32)
    return np.concatenate([user, newline, tokenizer.encode(question), newline, assistant, newline])
