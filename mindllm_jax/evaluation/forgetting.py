"""Base ability of a tuned run: bits per byte of held-out pre-training text, and benchmark tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from mindllm_jax.evaluation.bits_per_byte import held_out_bits, held_out_sources
from mindllm_jax.evaluation.suite import suite_periodic
from mindllm_jax.instruct.replay import pretraining_text
from mindllm_jax.instruct.tune import Tune
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.training.load_run import read_run
from mindllm_jax.training.loop import Periodic

log = logging.getLogger(__name__)


def base_ability(config: Tune) -> Callable[[Decoder], Mapping[str, float]] | None:
    """Returns the measurement of `held_out_bits` on the store of the base's pre-training, in the rows of the tuning.

    None, with a warning that says why, where the store is missing or has no held-out text.
    """
    length, seed = config.instructions.sequence_length, config.instructions.seed
    try:
        text = together(lambda: pretraining_text(read_run(Path(config.base)), config.replay, length, seed))
    except (OSError, ValueError) as error:
        log.warning("forgetting is not measured: %s", error)
        return None
    require_same(f"the token store {text.store.url}", text.store.manifest.to_json())
    if not held_out_sources(text.store):
        log.warning("forgetting is not measured: the token store %s has no held-out split", text.store.url)
        return None
    return held_out_bits(text.mixture, text.store)


def forgetting(config: Tune) -> list[Periodic]:
    """Returns the measurement of base ability for the tuning loop, before its first step too; none without text."""
    ability = base_ability(config)
    return [Periodic(config.loop.evaluate_every, ability, before=True)] if ability else []


def tuning_measurements(config: Tune) -> list[Periodic]:
    """Returns what is measured of a tuned run beside its answers: forgetting, and the tasks of its suite."""
    base = together(lambda: read_run(Path(config.base)))
    return [*forgetting(config), *suite_periodic(config.suite, base.tokenizer, base.model.max_seq_len)]
