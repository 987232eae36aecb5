"""The order of a stage's rows: which source each is of.

An order maps a position in the stage to a source's number and which of the source's rows in this stage it is; it counts
these up, so that each source is read in its own order whatever the order of the mixture. It is a pure function of the
position, and after the last row of the stage it begins again with the rows that follow.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from mindllm_jax.mixture.proportions import deal, dealt

Order = Callable[[int], tuple[int, int]]


class Shuffled:
    """Deals rows to languages, and those of a language to its sources, so that every window has the proportions."""

    def __init__(self, languages: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """
        Args:
            languages: weights.
            sources: weights of each language's sources; their numbers count through all languages.
        """
        self._languages, self._sources = languages, sources
        self._first_source = list(accumulate(map(len, sources), initial=0))

    def __call__(self, position: int) -> tuple[int, int]:
        language, position = deal(position, self._languages)
        source, row = deal(position, self._sources[language])
        return self._first_source[language] + source, row


class Blocked:
    """One block after the other; inside a block its sources are dealt evenly."""

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
        which, row = deal(position - begin, counts)
        return sources[which], again * counts[which] + row


class InRuns:
    """Some sources in runs of consecutive rows, spread evenly between the rows of the others.

    The last run of a source in a stage is shorter where the length of a run does not divide its rows. Runs follow each
    other directly where there are more of them than rows of other sources.
    """

    def __init__(self, counts: Sequence[int], lengths: Mapping[int, int], others: Order) -> None:
        """
        Args:
            counts: the stage's rows of each source.
            lengths: of a run, by number of the source.
            others: the order of the rows that are in no run.
        """
        self._counts, self._lengths, self._others = counts, lengths, others
        self._sources = [source for source in lengths if counts[source]]
        self._runs = [-(-counts[source] // lengths[source]) for source in self._sources]
        self._all_runs = sum(self._runs)
        self._other_rows = sum(count for source, count in enumerate(counts) if source not in lengths)

    def __call__(self, position: int) -> tuple[int, int]:
        again, position = divmod(position, sum(self._counts))
        run = bisect_right(range(self._all_runs), position, key=self._start) - 1
        if run >= 0:
            which, number = deal(run, self._runs)
            source = self._sources[which]
            row = number * self._lengths[source] + position - self._start(run)
            if row < min((number + 1) * self._lengths[source], self._counts[source]):
                return source, again * self._counts[source] + row
        return self._others(again * self._other_rows + position - self._rows_of_runs(run + 1))

    def _start(self, run: int) -> int:
        """The position of a run's first row: each run stands in the middle of its part of the other rows."""
        return self._rows_of_runs(run) + (2 * run + 1) * self._other_rows // (2 * self._all_runs)

    def _rows_of_runs(self, runs: int) -> int:
        """Rows in the first so many runs."""
        got = zip(self._sources, dealt(runs, self._runs) if self._runs else (), strict=True)
        return sum(min(number * self._lengths[source], self._counts[source]) for source, number in got)
