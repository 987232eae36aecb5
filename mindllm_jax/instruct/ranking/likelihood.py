"""Verdicts of a run of ours: the answer with the higher log-likelihood per byte given the prompt is better."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.chat_format import encode_conversations
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.ranking.comparisons import Request, Winner
from mindllm_jax.instruct.scoring.forward import ROW_LENGTH, token_scores
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.training.load_run import LoadedRun

PART = 512  # requests that are judged before their verdicts are kept


class Likelihood(NamedTuple):
    """Log-likelihood of an answer in nats per byte, and whether the beginning of its prompt was cut."""

    per_byte: float
    cut: bool


NO_TEXT = Likelihood(-math.inf, cut=False)


def likelihood_verdicts(
    run: LoadedRun, judged: Sequence[Request], tie: float, batch_size: int
) -> Iterator[tuple[Request, Winner, bool]]:
    """Yields every request with its verdict, and whether a prompt was cut.

    An answer without text has no likelihood and loses. Raises ValueError for a malformed prompt, NotFiniteError where
    the judge computes NaN.
    """
    for start in range(0, len(judged), PART):
        part = judged[start : start + PART]
        sides = [(*one.prompt.messages, Message("assistant", text)) for one in part for text in one.answers]
        unique = [one for one in dict.fromkeys(sides) if one[-1].content.strip()]
        known = dict(zip(unique, answer_likelihoods(run, unique, batch_size), strict=True))
        for number, request in enumerate(part):
            first, second = (known.get(side, NO_TEXT) for side in sides[2 * number : 2 * number + 2])
            if math.isnan(first.per_byte) or math.isnan(second.per_byte):
                raise NotFiniteError("the judge's log-likelihood of an answer is NaN")
            winner: Winner = "first" if first.per_byte > second.per_byte else "second"
            if abs(first.per_byte - second.per_byte) <= tie:
                winner = "tie"
            yield request, winner, first.cut or second.cut


def answer_likelihoods(run: LoadedRun, conversations: Sequence[Sequence[Message]], batch_size: int) -> list[Likelihood]:
    """Returns the likelihood of the last answer of each conversation; a long one loses its beginning."""
    longest = run.model.max_seq_len + 1
    texts, of_answers, cuts = list[np.ndarray](), list[np.ndarray](), list[bool]()
    for ids, mask in encode_conversations(run.tokenizer, conversations):
        begin = np.flatnonzero(mask & ~np.append(False, mask[:-1]))[-1]
        is_answer = mask & (np.arange(len(ids)) >= begin) & (run.tokenizer.token_bytes[ids] > 0)
        texts.append(ids[-longest:])
        of_answers.append(is_answer[-longest:][1:])
        cuts.append(len(ids) > longest)
    scores = token_scores(run.decoder, texts, batch_tokens=batch_size * ROW_LENGTH)
    found: list[Likelihood] = []
    for ids, is_answer, cut, score in zip(texts, of_answers, cuts, scores, strict=True):
        size = int(run.tokenizer.token_bytes[ids[1:]][is_answer].sum())
        log = -float(score.loss[is_answer].sum(dtype=np.float64))
        found.append(Likelihood(log / size, cut))
    return found
