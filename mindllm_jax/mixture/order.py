"""The order of a stage's rows: the source of each.

An order maps a position in the stage to the number of a source and to the number of its rows before the position, so
that each source is read in its own order whatever the order of the mixture. It is a pure function of the position, and
after the last row of the stage it begins again with the source's following rows.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from mindllm_jax.mixture.proportions import apportion, recipient

Order = Callable[[int], tuple[int, int]]


class Shuffled:
    """Languages take turns, and the sources of a language, so that every window of rows has the proportions."""

    def __init__(self, languages: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Prepares the turns.

        Args:
            languages: weights of the languages.
            sources: weights of each language's sources; their numbers count through all languages.
        """
        self._languages, self._sources = languages, sources
        self._first_source = list(accumulate(map(len, sources), initial=0))

    def __call__(self, position: int) -> tuple[int, int]:
        language, position = recipient(position, self._languages)
        source, row = recipient(position, self._sources[language])
        return self._first_source[language] + source, row


class Blocked:
    """Blocks of sources one after the other; inside a block its sources take turns evenly."""

    def __init__(self, counts: Sequence[int], blocks: Sequence[Sequence[int]]) -> None:
        """
        Args:
            counts: the stage's rows of each source.
            blocks: numbers of the sources of each block; every source is in one.
        """
        self._counts = counts
        self._blocks = [[(source, counts[source]) for source in block] for block in blocks]
        self._ends = list(accumulate(sum(count for _, count in block) for block in self._blocks))

    def __call__(self, position: int) -> tuple[int, int]:
        again, position = divmod(position, self._ends[-1])
        number = bisect_right(self._ends, position)
        begin = self._ends[number - 1] if number else 0
        sources, counts = zip(*self._blocks[number], strict=True)
        which, row = recipient(position - begin, counts)
        return sources[which], again * counts[which] + row


class InChunks:
    """Some sources come in chunks of consecutive rows, spread evenly between the rows of the others.

    The last chunk of a source in a stage is shorter where the chunk's length does not divide its rows. Chunks follow
    each other directly where there are more of them than rows of other sources.
    """

    def __init__(self, counts: Sequence[int], lengths: Mapping[int, int], others: Order) -> None:
        """
        Args:
            counts: the stage's rows of each source.
            lengths: rows of a chunk, by number of the source.
            others: the order of the rows outside chunks.
        """
        self._counts, self._lengths, self._others = counts, lengths, others
        self._sources = [source for source in lengths if counts[source]]
        self._chunks = [-(-counts[source] // lengths[source]) for source in self._sources]
        self._all_chunks = sum(self._chunks)
        self._other_rows = sum(count for source, count in enumerate(counts) if source not in lengths)
        # Rows are read in order, so that the search asks for the same chunks again.
        self._rows_before = lru_cache(1 << 12)(self._rows_before_chunk)

    def __reduce__(self) -> tuple[type["InChunks"], tuple[Any, ...]]:
        """Lets processes that read rows have a copy: a cache cannot be pickled."""
        return InChunks, (self._counts, self._lengths, self._others)

    def __call__(self, position: int) -> tuple[int, int]:
        again, position = divmod(position, sum(self._counts))
        chunk = bisect_right(range(self._all_chunks), position, key=self._start) - 1
        if chunk >= 0:
            which, number = recipient(chunk, self._chunks)
            source = self._sources[which]
            row = number * self._lengths[source] + position - self._start(chunk)
            if row < min((number + 1) * self._lengths[source], self._counts[source]):
                return source, again * self._counts[source] + row
        return self._others(again * self._other_rows + position - self._rows_before(chunk + 1))

    def _start(self, chunk: int) -> int:
        """Returns the position of a chunk's first row: a chunk is in the middle of its part of the other rows."""
        return self._rows_before(chunk) + (2 * chunk + 1) * self._other_rows // (2 * self._all_chunks)

    def _rows_before_chunk(self, chunk: int) -> int:
        """Returns the rows of all chunks before this one."""
        numbers = zip(self._sources, apportion(chunk, self._chunks) if self._chunks else (), strict=True)
        return sum(min(number * self._lengths[source], self._counts[source]) for source, number in numbers)
