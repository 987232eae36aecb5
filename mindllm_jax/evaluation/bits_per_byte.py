"""Bits per byte of held-out documents: a loss that can be compared across tokenizers and languages.

    bits per byte = sum of -log2 p(target) over all targets, the `<doc>` that ends each document included
                    / UTF-8 bytes of the documents

A split is read as rows of T tokens that do not overlap. The first tokens of a row have little context, so the figure is
an upper bound that falls with T; the same pass gives it by the tokens before each target (`by_position`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.rows import Rows, SampledRows
from mindllm_jax.store.manifest import DAMAGED
from mindllm_jax.store.rows import SplitRows
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.measure import measure_by_place

_LEAST_ROWS = 8  # rows of a source, however small its share: a batch takes no longer than a row
_SAMPLE_SEED = 0  # draws the rows that are measured: the same whatever the seed of a run, so that runs can be compared


@dataclass(frozen=True)
class Bits:
    """Bits that a model needs for a text, and the UTF-8 bytes of the text.

    Attributes:
        in_row: the same by the tokens before a target in its row: 1, 2 to 3, 4 to 7, …; () where it was not measured.
        in_document: by those of its own document in the row, `<doc>` included; attention sees no others.
    """

    bits: float = 0.0
    bytes: int = 0
    in_row: tuple[Bits, ...] = ()
    in_document: tuple[Bits, ...] = ()

    def __add__(self, other: Bits) -> Bits:
        def add(a: tuple[Bits, ...], b: tuple[Bits, ...]) -> tuple[Bits, ...]:
            return tuple(x + y for x, y in zip_longest(a, b, fillvalue=Bits()))

        return Bits(
            self.bits + other.bits,
            self.bytes + other.bytes,
            add(self.in_row, other.in_row),
            add(self.in_document, other.in_document),
        )

    @property
    def per_byte(self) -> float:
        """Returns bits per byte."""
        return self.bits / self.bytes


def by_position(bits: Bits) -> dict[str, list[dict[str, Any]]]:
    """Returns bits per byte by the tokens before a target, as JSON: ranges of them in its `row` and in its `document`.

    A range has `tokens_before` (as "4-7"), `bits`, `bytes` and `bits_per_byte`; the last is None where only `<doc>`,
    which has no bytes, stands there. Ranges that hold no target are left out.
    """
    return {
        name: [
            {
                "tokens_before": str(1 << k) if k == 0 else f"{1 << k}-{(2 << k) - 1}",
                "bits": part.bits,
                "bytes": part.bytes,
                "bits_per_byte": part.per_byte if part.bytes else None,
            }
            for k, part in enumerate(parts)
            if part.bits or part.bytes
        ]
        for name, parts in (("row", bits.in_row), ("document", bits.in_document))
    }


def held_out_bits(mixture: Mixture, store: TokenStore, *, rows: int = 64) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement for the training loop: `bits_per_byte/NAME` of each source and language of the mixture,
    also of sources that are too short to train on.

    It is an unbiased estimate of `split_bits` over all held-out text. About `rows` rows of each language are
    measured, of each source a share by its tokens, 8 at least: drawn at random from all of the split, always the same
    ones. A source's bits are those of its sample, times all its rows by the rows drawn; a language's figure is the sum
    of its sources' bits by the sum of their bytes, so that sources weigh by their held-out bytes. Where a source is
    named like a language, the figure is the language's.
    """
    shares = {language: _shares(store, sources, rows) for language, sources in held_out_sources(store, mixture).items()}

    def measure(decoder: Decoder) -> dict[str, float]:
        of_sources: dict[str, float] = {}
        of_languages: dict[str, float] = {}
        for language, sources in shares.items():
            bits = {
                source: _estimated_bits(decoder, store, source, mixture.sequence_length, share)
                for source, share in sources.items()
            }
            of_sources |= {source: part.per_byte for source, part in bits.items()}
            of_languages[language] = sum(bits.values(), Bits()).per_byte
        return {f"bits_per_byte/{name}": value for name, value in (of_sources | of_languages).items()}

    return measure


def held_out_sources(store: TokenStore, mixture: Mixture | None = None) -> dict[str, list[str]]:
    """Returns the sources with held-out text, by language; only those of the mixture where one is given."""
    chosen = set((mixture and mixture.sources) or store.sources)
    languages = {
        language: [source for source in sources if source in chosen and store.split(source, "held_out").bytes]
        for language, sources in store.languages().items()
        if mixture is None or language in mixture.languages()
    }
    return {language: sources for language, sources in languages.items() if sources}


def split_bits(
    decoder: Decoder,
    store: TokenStore,
    source: str,
    length: int,
    *,
    split: str = "held_out",
    title: str | None = None,
) -> Bits:
    """Returns the bits that the decoder needs for a split of a source, in rows of `length` tokens, also by position.

    With a title it shows progress. Raises ValueError where the tokens stand for other bytes than the manifest says.
    """
    measured, stated = (
        _bits_of(decoder, store, SplitRows(store, source, split, length), title),
        store.split(source, split),
    )
    if measured.bytes != stated.bytes:
        raise ValueError(
            f"{store.url}/manifest.json: bytes = {stated.bytes} of {source} {split}, and its tokens stand for"
            f" {measured.bytes}: {DAMAGED}"
        )
    return measured


def _shares(store: TokenStore, sources: Sequence[str], rows: int) -> dict[str, int]:
    """Returns how many rows of each source are drawn, `rows` in total or a few more."""
    tokens = {source: store.split(source, "held_out").tokens for source in sources}
    return {source: max(_LEAST_ROWS, math.ceil(rows * size / sum(tokens.values()))) for source, size in tokens.items()}


def _estimated_bits(decoder: Decoder, store: TokenStore, source: str, length: int, rows: int) -> Bits:
    """Estimates the bits of a source's held-out text from so many of its rows."""
    every = SplitRows(store, source, "held_out", length)
    sample = SampledRows(every, rows, _SAMPLE_SEED)
    # Rows have the same number of tokens, so their bits differ less than their bits per byte: multiplied like this, the
    # estimate has half the standard error that the sample's own bits per byte would have.
    bits = _bits_of(decoder, store, sample).bits * (len(every) / len(sample))
    return Bits(bits, store.split(source, "held_out").bytes)


def _bits_of(decoder: Decoder, store: TokenStore, rows: Rows, title: str | None = None) -> Bits:
    token_bytes = decoder.layout.placement.place(store.tokenizer.token_bytes)
    nats, sizes = measure_by_place(decoder, rows, token_bytes, title=title)
    in_row, in_document = (
        tuple(Bits(loss / math.log(2), int(size)) for loss, size in zip(*columns, strict=True))
        for columns in zip(nats.tolist(), sizes.tolist(), strict=True)
    )
    total = sum(in_row, Bits())
    return Bits(total.bits, total.bytes, in_row, in_document)
