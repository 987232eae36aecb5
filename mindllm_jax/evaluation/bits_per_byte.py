"""Bits per byte of held-out documents: a loss that can be compared across tokenizers and languages.

    bits per byte = sum of -log2 p(target) over all targets, the `<doc>` that ends each document included
                    / UTF-8 bytes of the documents

A split is read as rows of T tokens that do not overlap. The first tokens of a row have little context, so the figure is
an upper bound that falls with T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.data.mixture import Mixture
from mindllm_jax.data.rows import Batch, SampledRows, SplitRows
from mindllm_jax.data.store import TokenStore
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.training.measure import sums_over
from mindllm_jax.training.placement import place
from mindllm_jax.training.step import loss_sums

_SAMPLE_SEED = 0  # of the rows that are measured: the same whatever the seed of a run, so that runs can be compared


@dataclass(frozen=True)
class Bits:
    """What a model makes of some text."""

    bits: float = 0.0
    bytes: int = 0

    def __add__(self, other: Bits) -> Bits:
        return Bits(self.bits + other.bits, self.bytes + other.bytes)

    @property
    def per_byte(self) -> float:
        """Bits per byte."""
        return self.bits / self.bytes


def held_out_bits(mixture: Mixture, store: TokenStore, *, rows: int = 64) -> Callable[[Decoder], Mapping[str, float]]:
    """A measurement for the training loop: `bits_per_byte/NAME` for each source and language of the mixture.

    It takes a stratified sample of about `rows` rows of each language's held-out text: of each source a share by its
    tokens, at least one row, drawn at random from all of its split and always the same ones. A language's figure is the
    mean of its sources' figures weighted by their held-out bytes, which estimates the bits per byte of all its held-out
    text (`split_bits` over all sources) and equals it where `rows` covers them. Where a source is named like a
    language, the figure is the language's.
    """
    chosen = set(mixture.sources or store.sources)
    splits = {
        language: {source: store.split(source, "held_out") for source in sources if source in chosen}
        for language, sources in held_out_sources(store).items()
        if language in mixture.languages()
    }

    def measure(decoder: Decoder) -> dict[str, float]:
        of_sources: dict[str, float] = {}
        of_languages: dict[str, float] = {}
        for language, sources in splits.items():
            tokens, total = sum(split.tokens for split in sources.values()), Bits()
            for source, split in sources.items():
                share = math.ceil(rows * split.tokens / tokens)
                part = split_bits(decoder, store, source, mixture.sequence_length, rows=share)
                if part.bytes:  # else the rows drawn hold nothing but the ends of documents
                    of_sources[source] = part.per_byte
                    total += Bits(part.bits * (split.bytes / part.bytes), split.bytes)
            if total.bytes:
                of_languages[language] = total.per_byte
        return {f"bits_per_byte/{name}": value for name, value in (of_sources | of_languages).items()}

    return measure


def held_out_sources(store: TokenStore) -> dict[str, list[str]]:
    """The sources by language that hold text out."""
    languages = {
        language: [source for source in sources if store.split(source, "held_out").bytes]
        for language, sources in store.languages().items()
    }
    return {language: sources for language, sources in languages.items() if sources}


def split_bits(
    decoder: Decoder,
    store: TokenStore,
    source: str,
    length: int,
    *,
    split: str = "held_out",
    rows: int | None = None,
    title: str | None = None,
) -> Bits:
    """Bits that the decoder needs for a split of a source, in rows of `length` tokens.

    rows: how many, drawn at random from all of the split and always the same ones; None: all. With a title progress is
    shown.
    """
    every = SplitRows(store, source, split, length)
    chosen = every if rows is None else SampledRows(every, rows, seed=_SAMPLE_SEED)
    token_bytes = place(decoder, store.tokenizer.token_bytes)
    nats, size = sums_over(decoder, chosen, _sums, token_bytes, title=title)
    return Bits(float(nats) / math.log(2), int(size))


@partial(jax.jit, static_argnames="definition")
def _sums(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch, token_bytes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of the losses of a batch in nats, and the bytes of its targets."""
    sums = loss_sums(nnx.merge(definition, params), batch)
    return sums.loss, jnp.sum(jnp.where(batch.weights > 0, token_bytes[batch.targets], 0))
