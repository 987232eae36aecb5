"""The loss on held-out answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import SampledRows
from mindllm_jax.training.measure import measure_loss

_SAMPLE_SEED = 0  # draws the rows that are measured


def answer_loss(rows: PackedRows, *, count: int = 128) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement for the training loop: `answer_loss`, nats per token of the answers, and `answer_accuracy`.

    It takes `count` rows at most, drawn at random from all of them and always the same ones: packing fills the first
    rows best, so they are no fair sample.
    """
    sample = SampledRows(rows, count, _SAMPLE_SEED)

    def measure(decoder: Decoder) -> dict[str, float]:
        totals = measure_loss(decoder, sample)
        return {"answer_loss": totals.loss / totals.weight, "answer_accuracy": totals.correct / totals.weight}

    return measure
