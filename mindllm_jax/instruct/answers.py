"""Measurements on held-out conversations: the loss of the answers, and the repetition of greedy ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mindllm_jax.generation.engine import Completion, generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import SampledRows
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.measure import Totals, measure_loss

_SAMPLE_SEED = 0  # draws the rows that are measured
_NGRAM = 4  # tokens, as seq-rep-4 of Welleck et al. 2019

Measure = Callable[[Decoder], Mapping[str, float]]


def answer_loss(datasets: Mapping[str, PackedRows], *, count: int = 128) -> Measure:
    """Returns a measurement for the training loop: `answer_loss`, nats per token of the answers, and `answer_accuracy`.

    Of several datasets, `answer_loss/NAME` is the loss of each; the others are over the tokens of all. Of each, `count`
    rows at most are drawn, at random from all of them and always the same ones: packing fills the first rows best, so
    they are no fair sample.
    """
    samples = {name: SampledRows(rows, count, _SAMPLE_SEED) for name, rows in datasets.items()}

    def measure(decoder: Decoder) -> dict[str, float]:
        totals = {name: measure_loss(decoder, sample) for name, sample in samples.items()}
        every = Totals(*map(sum, zip(*totals.values(), strict=True)))
        losses = {f"answer_loss/{name}": part.loss / part.weight for name, part in totals.items()}
        return {
            "answer_loss": every.loss / every.weight,
            "answer_accuracy": every.correct / every.weight,
            **(losses if len(losses) > 1 else {}),
        }

    return measure


def answer_repetition(prompts: list[np.ndarray], tokenizer: Tokenizer, *, max_tokens: int = 64) -> Measure:
    """Returns a measurement for the training loop: `repetition`, the mean repetition of greedy answers to prompts."""

    def measure(decoder: Decoder) -> dict[str, float]:
        answers = greedy_answers(decoder, tokenizer, prompts, max_tokens=max_tokens)
        return {"repetition": float(np.mean([repetition(answer.tokens) for answer in answers]))}

    return measure


def greedy_answers(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[np.ndarray], *, max_tokens: int, batch_size: int = 16
) -> list[Completion]:
    """Returns the greedy answers to prompts of the chat format, int32 [T] each; a long one loses its beginning.

    Raises ValueError where `max_tokens` leaves no room for a prompt.
    """
    return generate(
        decoder,
        tokenizer,
        prompts,
        Sampling(temperature=0.0, max_tokens=max_tokens),
        stop_ids=tokenizer.ends,
        truncate=True,
        batch_size=batch_size,
    )


def repetition(tokens: list[int]) -> float:
    """Returns the share of 4-grams of tokens that occurred before; 0 for fewer than 4 tokens."""
    ngrams = list(zip(*(tokens[start:] for start in range(_NGRAM)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def first_prompts(datasets: Mapping[str, PackedRows], count: int) -> list[np.ndarray]:
    """Returns the tokens before the first answer of `count` conversations, int32 [T], the datasets in turn."""
    each = [_prompts(rows, count) for rows in datasets.values()]
    turns = [prompts[turn] for turn in range(count) for prompts in each if turn < len(prompts)]
    return turns[:count]


def _prompts(rows: PackedRows, count: int) -> list[np.ndarray]:
    prompts = []
    for start, end in zip(rows.conversations[:count], rows.conversations[1:], strict=False):
        prompts.append(rows.ids[start : start + int(np.argmax(rows.loss_mask[start:end]))])
    return prompts
