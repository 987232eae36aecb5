"""The measure of all variants: bits per byte of the same held-out text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mindllm_jax.evaluation.bits_per_byte import held_out_bits
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.store.store import TokenStore

GROUP = "bits_per_byte"


def measures(sources: tuple[str, ...], store: TokenStore) -> list[str]:
    """Returns the names of the measures: of each language of the sources, and the mean of the languages.

    sources: all of the store if empty.
    """
    languages = [name for name, own in store.languages().items() if not sources or set(own) & set(sources)]
    return [*(f"{GROUP}/{language}" for language in languages), f"{GROUP}/mean"]


def same_text(sources: tuple[str, ...], length: int, store: TokenStore) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement of held-out bits per byte of the sources' languages, and of their mean.

    A sample as in `held_out_bits`, the same for all variants of a row length, whatever they were trained on. sources:
    all of the store if empty; length: T, the tokens of a row.
    """
    *names, mean = measures(sources, store)
    weights = {name.removeprefix(f"{GROUP}/"): 1 for name in names}
    bits = held_out_bits(Mixture(store.url, weights, sources=sources, sequence_length=length), store)

    def measure(decoder: Decoder) -> dict[str, float]:
        values = dict(bits(decoder))
        return values | {mean: sum(values[name] for name in names) / len(names)}

    return measure
