"""The loss on held-out answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
from flax import nnx

from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Batch, SampledRows
from mindllm_jax.training.measure import sums_over
from mindllm_jax.training.step import loss_sums

_SAMPLE_SEED = 0  # of the rows that are measured


def answer_loss(rows: PackedRows, *, count: int = 128) -> Callable[[Decoder], Mapping[str, float]]:
    """A measurement for the training loop: `answer_loss`, nats a token over the answers, and `answer_accuracy`.

    It takes `count` rows at most, drawn at random from all of them and always the same ones: packing fills the first
    rows best, so they are no fair sample.
    """
    sample = SampledRows(rows, count, _SAMPLE_SEED)

    def measure(decoder: Decoder) -> dict[str, float]:
        loss, weight, correct = sums_over(decoder, sample, _sums)
        return {"answer_loss": float(loss / weight), "answer_accuracy": float(correct / weight)}

    return measure


@partial(jax.jit, static_argnames="definition")
def _sums(definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    sums = loss_sums(nnx.merge(definition, params), batch)
    return sums.loss, sums.weight, sums.correct
