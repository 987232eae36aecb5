"""The generation settings of the harness, translated into ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindllm_jax.generation.sampling import Sampling

_NEUTRAL = {"repetition_penalty": 1, "num_beams": 1}
"""Settings of transformers that change greedy answers too, with the value at which they change nothing."""


def generation_settings(settings: Mapping[str, Any]) -> tuple[Sampling, tuple[str, ...]]:
    """Translates generation settings of the harness into sampling and stop strings.

    An answer is drawn at temperature 1 where do_sample is true and no temperature is given, and a greedy one depends on
    no setting of draws. Raises ValueError for a wrong setting, and for an unsupported one that would change the answer.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    known: dict[str, Any] = {**normalize_gen_kwargs(dict(settings))}
    until, max_tokens = tuple(known.pop("until")), known.pop("max_gen_toks")
    temperature = float(known.pop("temperature", 1.0)) if known.pop("do_sample") else 0.0
    top_k, top_p = known.pop("top_k", None) or None, float(known.pop("top_p", 1.0))  # 0, as in transformers: all tokens
    refused = sorted(
        name for name, value in known.items() if value != _NEUTRAL.get(name, None if temperature else value)
    )
    if refused:
        raise ValueError(
            f"generation settings {refused} are not supported; use do_sample, temperature, top_k, top_p, max_gen_toks"
        )
    if not temperature:
        return Sampling(0.0, None, max_tokens=max_tokens), until
    return Sampling(temperature, top_k, top_p, max_tokens), until
