"""The mixture of sources that pre-training reads, as an endless sequence of rows."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import grain
import numpy as np

from mindllm_jax.data.hashing import hash64
from mindllm_jax.data.permutation import permute
from mindllm_jax.data.rows import Batch, read_rows
from mindllm_jax.data.store import TokenStore


@dataclass(frozen=True)
class Mixture:
    """What pre-training reads, and in which proportions.

    Attributes:
        store: the token store.
        weights: whole numbers by language: of 5 rows `{"zh": 2, "en": 3}` takes 2 in Chinese and 3 in English. Inside a
            language each source has the share of its tokens.
        sources: take only these; all sources of the languages if empty.
        sequence_length: T, the tokens of a row.
        seed: of the order of the rows and of where documents are cut.
    """

    store: str
    weights: dict[str, int] = field(default_factory=lambda: {"zh": 2, "en": 3})
    sources: tuple[str, ...] = ()
    sequence_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("Mixture.weights is empty; name at least one language, as {'zh': 2, 'en': 3}")
        for language, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
                raise ValueError(f"Mixture.weights[{language!r}] must be a whole number of at least 1, not {weight!r}")
        if self.sequence_length < 2:
            raise ValueError(f"Mixture.sequence_length must be at least 2, not {self.sequence_length}")


class MixtureRows:
    """Rows of the train splits, mixed; endless. Row r is a pure function of the store, the settings and r.

    A row holds T consecutive tokens of one source. An epoch of a source of N tokens is ceil(N / T) rows in a random
    order: the stream, which is a circle, cut into rows from a place that changes with the epoch, so that documents are
    cut elsewhere each time. The last of them, where T does not divide N, is filled up with padding of weight 0, so that
    every token is a target exactly once in an epoch.

    Which language a row is in follows from its number, in a fixed pattern with the sum of the weights as its period.
    The rows of a language are dealt to its sources likewise, by the rows in their epochs, so all sources of a language
    end their epochs together. The proportions by rows are the proportions by tokens, but for the padding.
    """

    def __init__(self, mixture: Mixture, store: TokenStore) -> None:
        """Raises ValueError for a language or source that is not in the store, and a source too short for one row."""
        self.sequence_length = mixture.sequence_length
        self._store = store
        self._seed = mixture.seed
        by_language = _chosen_sources(mixture, store)
        self._sources = [source for sources in by_language.values() for source in sources]
        self._tokens = [store.split(source, "train").tokens for source in self._sources]
        rows = dict(zip(self._sources, (-(-tokens // self.sequence_length) for tokens in self._tokens), strict=True))
        pattern = _TwoLevels(
            [mixture.weights[language] for language in by_language],
            [[rows[source] for source in sources] for sources in by_language.values()],
        )
        # Shuffled and repeated by source, then mixed: a shuffle of the mixture would lose proportions and epochs.
        self._order = grain.MapDataset.select_from_datasets(
            [self._rows_of(number, rows[source]) for number, source in enumerate(self._sources)], pattern
        )

    def read(self, indices: np.ndarray) -> Batch:
        """See `Rows`."""
        places, targets = [], []
        for index in indices:
            place = self._order[int(index)]
            assert place is not None  # only a filter gives None
            number, epoch, row = place
            source, before = self._sources[number], row * self.sequence_length
            cut = hash64(self._seed, "cut", source, epoch) % self._tokens[number]
            places.append((source, "train", cut + before))
            targets.append(min(self._tokens[number] - before, self.sequence_length))
        return read_rows(self._store, places, np.array(targets), self.sequence_length)

    def _rows_of(self, number: int, rows: int) -> grain.MapDataset[tuple[int, int, int]]:
        """The rows of one source, endless: (number of the source, epoch, row of the epoch's grid)."""
        source = self._sources[number]

        def shuffled(index: int, row: int) -> tuple[int, int, int]:
            epoch = index // rows
            return number, epoch, permute(row, rows, hash64(self._seed, "order", source, epoch))

        return grain.MapDataset.range(rows).repeat().map_with_index(shuffled)


class _TwoLevels(grain.transforms.DatasetSelectionMap):
    """Deals rows to languages, and those of a language to its sources. Grain's own `mix` rounds the proportions."""

    def __init__(self, weights: Sequence[int], rows: Sequence[Sequence[int]]) -> None:
        self._weights, self._rows = weights, rows
        self._first_source = np.cumsum([0, *map(len, rows)]).tolist()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        language, index = deal(index, self._weights)
        source, index = deal(index, self._rows[language])
        return self._first_source[language] + source, index


def deal(index: int, weights: Sequence[int]) -> tuple[int, int]:
    """Who gets the item `index` when items are dealt evenly by weights, and how many it got before.

    Of any number of items from the start the first gets its share, rounded; the others are dealt the rest in the same
    way. After every `sum(weights)` items each has got exactly its weight.
    """
    rest = sum(weights)
    for which, weight in enumerate(weights):
        before, then = ((2 * items * weight + rest) // (2 * rest) for items in (index, index + 1))
        if then > before:
            return which, before
        index -= before
        rest -= weight
    raise AssertionError("the last one takes what is left")


def _chosen_sources(mixture: Mixture, store: TokenStore) -> dict[str, list[str]]:
    """The sources of each language of the mixture, both in order of their names."""
    for source in mixture.sources:
        if source not in store.sources:
            near = difflib.get_close_matches(source, store.sources, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(store.sources))}"
            raise ValueError(f"Mixture.sources names {source!r}, which is not in the store {store.url}; {hint}")
        if store.sources[source].language not in mixture.weights:
            raise ValueError(
                f"Mixture.sources names {source!r}, whose language {store.sources[source].language!r} has no weight in"
                " Mixture.weights"
            )
    chosen: dict[str, list[str]] = {}
    for language in sorted(mixture.weights):
        in_store = store.languages().get(language, [])
        chosen[language] = [source for source in in_store if source in mixture.sources or not mixture.sources]
        if not in_store:
            raise ValueError(
                f"Mixture.weights names the language {language!r}, of which the store {store.url} has nothing; it has"
                f" {', '.join(store.languages()) or 'no source at all'}"
            )
        if not chosen[language]:
            raise ValueError(f"Mixture.sources names no source of the language {language!r}, which has a weight")
        for source in chosen[language]:
            tokens = store.split(source, "train").tokens
            if tokens <= mixture.sequence_length:
                raise ValueError(
                    f"source {source} has {tokens} tokens to train on, too few for a row of {mixture.sequence_length}"
                    " and its last target; lower Mixture.sequence_length, or leave it out by Mixture.sources"
                )
    return chosen
