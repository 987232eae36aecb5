"""The loss on held-out answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice

import jax
from flax import nnx

from mindllm_jax.data.batches import GlobalBatches
from mindllm_jax.data.rows import Batch
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.training.placement import even_rows, sharding_of
from mindllm_jax.training.step import loss_sums

BATCH_ROWS = 8


def answer_loss(rows: PackedRows, *, batches: int = 16) -> Callable[[Decoder], Mapping[str, float]]:
    """A measurement for the training loop: `answer_loss`, nats a token over the answers, and `answer_accuracy`.

    It takes the rows of the first `batches` batches; the rows are in random order, so these are a fair sample.
    """

    def measure(decoder: Decoder) -> dict[str, float]:
        definition, params = nnx.split(decoder)
        count, sharding = even_rows(decoder, BATCH_ROWS), sharding_of(decoder).named("batch", "length")
        loss, weight, correct = 0.0, 0.0, 0.0
        with GlobalBatches(rows, count, sharding) as every:
            for _, batch in islice(every, batches):
                sums = jax.device_get(_sums(definition, params, batch))
                loss, weight, correct = loss + sums[0], weight + sums[1], correct + sums[2]
        return {"answer_loss": float(loss / weight), "answer_accuracy": float(correct / weight)}

    return measure


@partial(jax.jit, static_argnames="definition")
def _sums(definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    sums = loss_sums(nnx.merge(definition, params), batch)
    return sums.loss, sums.weight, sums.correct
