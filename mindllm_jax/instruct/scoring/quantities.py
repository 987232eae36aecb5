"""Raw quantities of a conversation: sums of losses and entropies over its answers, and the counts they are over.

A conversation is scored in three contexts. Its answers are found by the loss mask of the chat format, so an answer that
repeats itself in the question is no matter, and its ids are the same in all three:

- given the prompt: the whole conversation in the chat format;
- after the bare response header: every answer after what the chat template puts before an answer, and nothing else;
- alone: every answer after nothing; its first id has no prediction and is not scored.

Symbols that end an answer are no part of it; their loss given the prompt is `end_nll`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.chat_format import EncodedConversation, encode_conversations, encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.scoring.forward import TokenScores
from mindllm_jax.tokenization.tokenizer import Tokenizer

Score = Callable[[Sequence[np.ndarray]], list[TokenScores]]


class Quantities(NamedTuple):
    """Sums and counts of one conversation; losses and entropies in nats.

    Attributes:
        whole_tokens, whole_bytes: predicted ids of the whole conversation, and the UTF-8 bytes that they stand for.
        answer_tokens, answer_bytes: the same of its answers.
        alone_tokens: the answers' ids but the first of each.
        whole_nll: loss of the whole conversation.
        answer_nll, answer_entropy: loss of the answers given the prompt, and predictive entropy at their places.
        end_nll: loss of the symbols that end the answers.
        header_nll: loss of the answers after the bare response header.
        alone_nll: loss of the answers alone, but for the first id of each.
        tuned_nll, tuned_entropy: as `answer_nll` and `answer_entropy` under the second model; None without one.
    """

    whole_tokens: int
    whole_bytes: int
    answer_tokens: int
    answer_bytes: int
    alone_tokens: int
    whole_nll: float
    answer_nll: float
    answer_entropy: float
    end_nll: float
    header_nll: float
    alone_nll: float
    tuned_nll: float | None
    tuned_entropy: float | None


class Contexts(NamedTuple):
    """The texts of a conversation that are scored, int32 ids.

    Attributes:
        given_prompt: the whole conversation.
        is_answer: bool, of each id of `given_prompt`.
        is_end: bool, of each id of `given_prompt`: symbols that end an answer.
        after_header: every answer after the bare response header.
        alone: the answers of at least two ids.
    """

    given_prompt: np.ndarray
    is_answer: np.ndarray
    is_end: np.ndarray
    after_header: list[np.ndarray]
    alone: list[np.ndarray]


def response_header(tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids that the chat template puts before an answer, int32: `<assistant>\\n` of MindLLM's.

    Raises ValueError where the template has none, or changes the question before it.
    """
    question = [Message("user", "a")]
    (plain,), prompt = encode_conversations(tokenizer, [question]), encode_prompt(tokenizer, question)
    if len(prompt) <= len(plain.ids) or not np.array_equal(prompt[: len(plain.ids)], plain.ids):
        raise ValueError(f"the chat template of {tokenizer.path} adds no header before an answer, so it has no scores")
    return prompt[len(plain.ids) :]


def contexts(tokenizer: Tokenizer, encoded: EncodedConversation, header: np.ndarray) -> Contexts | None:
    """Returns the texts of a conversation that are scored; None where it has no token of an answer."""
    ids, mask = encoded
    is_text = tokenizer.token_bytes[ids] > 0
    is_answer = mask & is_text
    if not is_answer.any():
        return None
    begins = np.flatnonzero(mask & ~np.append(False, mask[:-1]))
    ends = np.flatnonzero(mask & ~np.append(mask[1:], False)) + 1
    answers = [ids[begin:end][is_text[begin:end]] for begin, end in zip(begins, ends, strict=True)]
    answers = [answer for answer in answers if len(answer)]
    return Contexts(
        ids,
        is_answer,
        mask & ~is_text,
        [np.concatenate([header, answer]) for answer in answers],
        [answer for answer in answers if len(answer) > 1],
    )


def quantities(
    tokenizer: Tokenizer, some: Sequence[Contexts], header: np.ndarray, score: Score, tuned: Score | None
) -> list[Quantities]:
    """Returns the quantities of some conversations; `score` and `tuned` return the scores of texts under the models."""
    whole = [one.given_prompt for one in some]
    bounds = np.cumsum([0, *(len(texts) for one in some for texts in (one.after_header, one.alone))])
    apart = [text for one in some for texts in (one.after_header, one.alone) for text in texts]
    scores = score([*whole, *apart])
    given, others = scores[: len(whole)], scores[len(whole) :]
    of_tuned = [None] * len(some) if tuned is None else tuned(whole)
    results = []
    for number, (one, of_base, second) in enumerate(zip(some, given, of_tuned, strict=True)):
        first, middle, last = bounds[2 * number : 2 * number + 3]
        is_answer, is_end = one.is_answer[1:], one.is_end[1:]
        size = tokenizer.token_bytes[one.given_prompt]
        results.append(
            Quantities(
                whole_tokens=len(one.given_prompt) - 1,
                whole_bytes=int(size[1:].sum()),
                answer_tokens=int(one.is_answer.sum()),
                answer_bytes=int(size[one.is_answer].sum()),
                alone_tokens=sum(len(text) - 1 for text in one.alone),
                whole_nll=_sum(of_base.loss),
                answer_nll=_sum(of_base.loss[is_answer]),
                answer_entropy=_sum(of_base.entropy[is_answer]),
                end_nll=_sum(of_base.loss[is_end]),
                header_nll=sum(_sum(scores.loss[len(header) - 1 :]) for scores in others[first:middle]),
                alone_nll=sum(_sum(scores.loss) for scores in others[middle:last]),
                tuned_nll=None if second is None else _sum(second.loss[is_answer]),
                tuned_entropy=None if second is None else _sum(second.entropy[is_answer]),
            )
        )
    return results


def compressed_bytes(texts: Sequence[str]) -> tuple[int, int]:
    """Returns the UTF-8 bytes of texts, joined by line breaks, and those of zlib at level 9 of them."""
    content = "\n".join(texts).encode()
    return len(content), len(zlib.compress(content, 9))


def _sum(values: np.ndarray) -> float:
    return float(values.sum(dtype=np.float64))
