"""Bits per token of documents under a run, beside one plain forward pass."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.corpus.settings import Scoring
from mindllm_jax.evaluation.perplexity import load_scorer, resolve_checkpoint
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder

LogProbabilities = Callable[[Decoder, Sequence[int]], np.ndarray]
TEXTS = ["A mill by the river.", "民法典第一条", "the same word the same word " * 40, "", "x"]


def test_bits_are_those_of_a_plain_pass(run: Path, tokenizer: Tokenizer, log_probabilities: LogProbabilities) -> None:
    scoring = resolve_checkpoint(Scoring(str(run), "chosen", max_tokens=24, batch_size=2))
    assert scoring.step == 5, "the latest checkpoint"
    found = list(load_scorer(scoring)(iter(TEXTS)))
    decoder = load_decoder(run).decoder
    for text, bits in zip(TEXTS, found, strict=True):
        ids = tokenizer.encode(text).tolist()[:24]
        if not ids:
            assert bits == 0
            continue
        logs = log_probabilities(decoder, [tokenizer.doc_id, *ids[:-1]])[range(len(ids)), ids]
        assert bits == pytest.approx(-logs.mean() / math.log(2), rel=5e-6)


def test_another_checkpoint_says_something_else(run: Path) -> None:
    early, late = (next(load_scorer(Scoring(str(run), "chosen", step, max_tokens=24))(["a mill"])) for step in (3, 5))
    assert early != late


def test_a_model_that_reads_less_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match=r"Scoring\.max_tokens = 65 is more than the Model\.max_seq_len = 64"):
        resolve_checkpoint(Scoring(str(run), "chosen", max_tokens=65))
