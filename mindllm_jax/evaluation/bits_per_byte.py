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
from itertools import islice

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.data.batches import GlobalBatches
from mindllm_jax.data.mixture import Mixture
from mindllm_jax.data.rows import Batch, SplitRows
from mindllm_jax.data.store import TokenStore
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.training.placement import even_rows, place, sharding_of
from mindllm_jax.training.step import loss_sums

BATCH_ROWS = 8


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

    It takes the first rows of each source's held-out split, about `rows` in all of a language, dealt by the sizes of
    its sources, so that a language's figure estimates that of its whole held-out text. Documents lie in a random order
    in a store, so the first are a fair sample. Where a source is named like a language, the figure is the language's.
    """
    chosen = set(mixture.sources or store.sources)
    tokens = {
        language: {source: store.split(source, "held_out").tokens for source in sources if source in chosen}
        for language, sources in held_out_sources(store).items()
        if language in mixture.languages()
    }

    def measure(decoder: Decoder) -> dict[str, float]:
        of_sources: dict[str, float] = {}
        of_languages: dict[str, float] = {}
        for language, sizes in tokens.items():
            total = Bits()
            for source, size in sizes.items():
                share = math.ceil(rows * size / sum(sizes.values()))
                part = split_bits(decoder, store, source, mixture.sequence_length, rows=share)
                of_sources[source] = part.per_byte
                total += part
            if sizes:
                of_languages[language] = total.per_byte
        return {f"bits_per_byte/{name}": value for name, value in (of_sources | of_languages).items()}

    return measure


def held_out_sources(store: TokenStore) -> dict[str, list[str]]:
    """The sources by language that hold documents out."""
    languages = {
        language: [source for source in sources if store.split(source, "held_out").documents]
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

    rows: how many, from the beginning, rounded up to whole batches; None: all. With a title progress is shown.
    """
    count = even_rows(decoder, BATCH_ROWS)
    every = SplitRows(store, source, split, length)
    steps = math.ceil(min(len(every), rows or len(every)) / count)
    token_bytes = place(decoder, store.tokenizer.token_bytes)
    definition, params = nnx.split(decoder)
    total = Bits()
    console = Console(stderr=True, quiet=title is None or jax.process_index() != 0)
    with GlobalBatches(every, count, sharding_of(decoder).named("batch", "length")) as batches:
        for _, batch in track(islice(batches, steps), title or "", total=steps, console=console, transient=True):
            nats, size = jax.device_get(_sums(definition, params, batch, token_bytes))
            total += Bits(float(nats) / math.log(2), int(size))
    return total


@partial(jax.jit, static_argnames="definition")
def _sums(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: Batch, token_bytes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of the losses of a batch in nats, and the bytes of its targets."""
    sums = loss_sums(nnx.merge(definition, params), batch)
    return sums.loss, jnp.sum(jnp.where(batch.weights > 0, token_bytes[batch.targets], 0))
