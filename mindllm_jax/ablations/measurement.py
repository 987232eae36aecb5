"""The measure of all variants: bits per byte of the same held-out text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mindllm_jax.evaluation.bits_per_byte import held_out_bits, held_out_sources
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.store.store import TokenStore

GROUP = "bits_per_byte"


class HeldOutText(NamedTuple):
    """The held-out text on which all variants of pre-training are measured.

    Attributes:
        store: the baseline's token store.
        sources: the baseline's; all of the store if empty.
        rows: about so many of each language, as in `held_out_bits`.
    """

    store: str
    sources: tuple[str, ...]
    rows: int


def measures(sources: tuple[str, ...], store: TokenStore) -> list[str]:
    """Returns the names of the measures: of each language with held-out text of the sources, and their mean.

    sources: all of the store if empty.
    """
    languages = [name for name, own in held_out_sources(store).items() if not sources or set(own) & set(sources)]
    return [*(f"{GROUP}/{language}" for language in languages), f"{GROUP}/mean"]


def text_store(text: HeldOutText, length: int, store: TokenStore) -> TokenStore:
    """Returns the store whose held-out text measures the runs on a store: the text's own, where the tokenizer is one.

    A store of another tokenizer holds the same documents in other tokens, and is measured on its own, in all rows of
    `length` tokens, because a sample of them is another text. Raises ValueError where its held-out documents differ, or
    `text.rows` are too few.
    """
    own = store if store.url == text.store else TokenStore.open(text.store)
    if own.manifest.tokenizer_sha256 == store.manifest.tokenizer_sha256:
        return own
    for source in text.sources or sorted({*own.sources, *store.sources}):
        sizes = [one.split(source, "held_out").bytes if source in one.sources else 0 for one in (own, store)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the held-out text of {source} has {sizes[0]:,} bytes in {own.url} and {sizes[1]:,} in {store.url}:"
                " variants of other tokenizers are measured on stores of the same documents"
            )
    for language, own_sources in held_out_sources(store).items():
        chosen = [source for source in own_sources if source in (text.sources or own_sources)]
        tokens = sum(store.split(source, "held_out").tokens for source in chosen)
        if text.rows * length < tokens:
            raise ValueError(
                f"Suite.held_out_rows is {text.rows}, and the held-out text of {language} in {store.url} has"
                f" {-(-tokens // length):,} rows: variants of other tokenizers are measured on all of it"
            )
    return store


def same_text(text: HeldOutText, length: int, store: TokenStore) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement of held-out bits per byte of the text's languages, and of their mean.

    A sample as in `held_out_bits`, the same for all variants of a tokenizer and row length, whatever they were trained
    on. length: T, the tokens of a row; store: of the run.
    """
    held_out = text_store(text, length, store)
    *names, mean = measures(text.sources, held_out)
    weights = {name.removeprefix(f"{GROUP}/"): 1 for name in names}
    mixture = Mixture(held_out.url, weights, sources=text.sources, sequence_length=length)
    bits = held_out_bits(mixture, held_out, rows=text.rows)

    def measure(decoder: Decoder) -> dict[str, float]:
        values = dict(bits(decoder))
        return values | {mean: sum(values[name] for name in names) / len(names)}

    return measure
