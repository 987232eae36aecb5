"""Scores documents by their bits per token under a pre-trained model, for `Scoring`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mindllm_jax.corpus.settings import Scoring
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.parallel.startup import check_platforms
from mindllm_jax.training.load_run import load_decoder, read_run

_DOCUMENTS = 512  # packed together
_CHARACTERS = 16  # per token at most: a text is cut before it is tokenized


def resolve_checkpoint(scoring: Scoring) -> Scoring:
    """Returns the settings with the step of the run's latest checkpoint if they name none.

    Raises as `read_run` does, and ValueError if the model reads less than `Scoring.max_tokens`.
    """
    record = read_run(Path(scoring.run), scoring.step)
    if scoring.max_tokens > record.model.max_seq_len:
        raise ValueError(
            f"Scoring.max_tokens = {scoring.max_tokens} is more than the Model.max_seq_len = {record.model.max_seq_len}"
            f" of the run {scoring.run}"
        )
    return replace(scoring, step=int(record.folder.name))


def load_scorer(scoring: Scoring) -> Callable[[Iterable[str]], Iterator[float]]:
    """Loads the model of a run; returns a function from texts to the bits per token of their first tokens.

    The model runs on one device; 512 texts are in memory at a time. Raises as `load_decoder` does, and ValueError if
    JAX_PLATFORMS names a missing device.
    """
    check_platforms()
    loaded = load_decoder(Path(scoring.run), step=scoring.step)
    tokenizer = loaded.tokenizer

    def bits_per_token(texts: Iterable[str]) -> Iterator[float]:
        beginnings = (text[: scoring.max_tokens * _CHARACTERS] for text in texts)
        while batch := list(islice(beginnings, _DOCUMENTS)):
            tokens = [ids[: scoring.max_tokens].tolist() for ids in tokenizer.encode_batch(batch)]
            queries = [Query([tokenizer.doc_id], ids) for ids in tokens]
            try:
                answers = likelihoods(loaded.decoder, queries, batch_size=scoring.batch_size)
            except NotFiniteError as error:
                raise ValueError(f"{error}: set an earlier Scoring.step or another Scoring.run") from None
            for ids, answer in zip(tokens, answers, strict=True):
                yield -answer.log / math.log(2) / max(1, len(ids))

    return bits_per_token
