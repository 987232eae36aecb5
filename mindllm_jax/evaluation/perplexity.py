"""How surprising a pre-trained model finds documents: what a corpus can be chosen by (`Scoring`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mindllm_jax.corpus.settings import Scoring
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.parallel.startup import check_platforms
from mindllm_jax.training.load_run import load_decoder, read_run

_DOCUMENTS = 512  # packed together
_CHARACTERS = 16  # of a token at most, or what is cut from a long text is a token too short


def with_checkpoint(scoring: Scoring) -> Scoring:
    """With the step of the run's newest checkpoint where none is given.

    Raises as `read_run` does, and ValueError where the model reads less than `Scoring.tokens`.
    """
    record = read_run(Path(scoring.run), scoring.step)
    if scoring.tokens > record.model.max_seq_len:
        raise ValueError(
            f"Scoring.tokens = {scoring.tokens} is more than the Model.max_seq_len = {record.model.max_seq_len} of"
            f" the run {scoring.run}"
        )
    return replace(scoring, step=int(record.folder.name))


def load_scorer(scoring: Scoring) -> Callable[[Iterable[str]], Iterator[float]]:
    """The model of a run, made ready to say of texts how many bits per token it needs for their first tokens.

    It computes on one device, and holds as many texts as it packs together. Raises as `load_decoder` does, and
    ValueError where JAX_PLATFORMS names a device that is not there.
    """
    check_platforms()
    loaded = load_decoder(Path(scoring.run), step=scoring.step)
    tokenizer = loaded.tokenizer

    def bits_per_token(texts: Iterable[str]) -> Iterator[float]:
        beginnings = (text[: scoring.tokens * _CHARACTERS] for text in texts)
        while batch := list(islice(beginnings, _DOCUMENTS)):
            tokens = [ids[: scoring.tokens].tolist() for ids in tokenizer.encode_batch(batch)]
            queries = [Query([tokenizer.doc_id], ids) for ids in tokens]
            answers = likelihoods(loaded.decoder, queries, batch_size=scoring.batch_size)
            for ids, answer in zip(tokens, answers, strict=True):
                yield -answer.log / math.log(2) / max(1, len(ids))

    return bits_per_token
