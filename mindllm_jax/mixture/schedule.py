"""The schedule of a run: rows of each source in each stage, and the source of every row."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from math import floor, lcm
from typing import NamedTuple

from mindllm_jax.mixture.order import Blocked, InChunks, Order, Shuffled
from mindllm_jax.mixture.proportions import allocate, apportion
from mindllm_jax.mixture.settings import Mixture, Stage, require_known


class Source(NamedTuple):
    """A source of the run and its rows in an epoch."""

    name: str
    language: str
    rows: int


class StageRows(NamedTuple):
    """A stage: its first row, the rows of each source, and their order."""

    name: str
    first: int
    counts: list[int]
    order: Order


class Schedule:
    """The source of each row of a run, and which of its rows it is.

    Attributes:
        sources: in order of languages and names; other lists are in this order.
        stages: one after the other.
    """

    def __init__(
        self, mixture: Mixture, epochs: Mapping[str, Mapping[str, int]], *, steps: int, global_batch_size: int
    ) -> None:
        """Lays the mixture out over the steps of a run.

        Args:
            mixture: the settings.
            epochs: rows in an epoch of each source, by language: see `rows_in_epoch`.
            steps: steps of the run; a stage is a range of them.
            global_batch_size: rows of a step.

        Raises ValueError where a setting names a source that the run does not read, a stage has no step or nothing to
        read, and where the caps leave a language with too few tokens.
        """
        self._mixture = mixture
        self.sources = [Source(name, language, rows) for language in epochs for name, rows in epochs[language].items()]
        self._by_language = [
            [number for number, source in enumerate(self.sources) if source.language == language] for language in epochs
        ]
        self._require_sources()
        capped = mixture.max_epochs is not None or bool(mixture.source_max_epochs)
        self._counted = capped or mixture.order == "blocked" or bool(mixture.chunk_rows)
        stages = mixture.stages or (Stage(name="all", share=1),)
        first_rows = [step * global_batch_size for step in _first_steps(stages, steps)]
        rows = [end - begin for begin, end in pairwise(first_rows)]
        language_weights = [
            [stage.get("weights", mixture.weights).get(language, 0) for language in epochs] for stage in stages
        ]
        source_weights = [self._source_weights(stage) for stage in stages]
        counts = self._counts(stages, rows, language_weights, source_weights)
        self.stages = [
            StageRows(stage["name"], first, counts[n], self._order(counts[n], language_weights[n], source_weights[n]))
            for n, (stage, first) in enumerate(zip(stages, first_rows[:-1], strict=True))
        ]
        self._first_rows = first_rows[:-1]
        # Rows of each source in the stages before, where a stage continues.
        self._read = [[0] * len(self.sources), *accumulate(counts, lambda a, b: list(map(sum, zip(a, b, strict=True))))]

    @property
    def depends_on_length(self) -> bool:
        """Whether a row can depend on the length of the run: always but for a shuffled mixture of one stage."""
        return len(self.stages) > 1 or self._counted

    def source_row(self, row: int) -> tuple[int, int]:
        """Returns the number of a row's source, and which of the source's rows it is, counted through all its epochs.

        Past the end of the run its last stage continues.
        """
        number = bisect_right(self._first_rows, row) - 1
        source, index = self.stages[number].order(row - self.stages[number].first)
        return source, self._read[number][source] + index

    def _require_sources(self) -> None:
        mixture, names = self._mixture, [source.name for source in self.sources]
        for setting, named in (
            ("source_weights", mixture.source_weights),
            ("source_max_epochs", mixture.source_max_epochs),
            ("blocks", [source for block in mixture.blocks for source in block]),
            ("chunk_rows", mixture.chunk_rows),
            *((f"stages: {stage['name']}", stage.get("source_weights", {})) for stage in mixture.stages),
        ):
            require_known(setting, list(named), names, "no source of this run (one too short for a row is left out)")

    def _source_weights(self, stage: Stage) -> list[int]:
        """Returns whole numbers in the proportions of the sources' rows times their weights."""
        factors = stage.get("source_weights", self._mixture.source_weights)
        # str: 0.1 means a tenth, not the binary fraction next to it.
        shares = [source.rows * Fraction(str(factors.get(source.name, 1))) for source in self.sources]
        denominator = lcm(*(share.denominator for share in shares))
        return [int(share * denominator) for share in shares]

    def _cap(self, source: Source) -> int | None:
        epochs = self._mixture.source_max_epochs.get(source.name, self._mixture.max_epochs)
        return None if epochs is None else floor(source.rows * Fraction(str(epochs)))

    def _counts(
        self,
        stages: Sequence[Stage],
        rows: Sequence[int],
        language_weights: Sequence[Sequence[int]],
        source_weights: Sequence[Sequence[int]],
    ) -> list[list[int]]:
        """Returns rows by stage and source."""
        counts = [[0] * len(self.sources) for _ in stages]
        demands = [apportion(*stage) for stage in zip(rows, language_weights, strict=True)]
        for number, members in enumerate(self._by_language):
            weights = [[of_stage[source] for source in members] for of_stage in source_weights]
            language = self.sources[members[0]].language
            for stage, of_sources, demand in zip(stages, weights, demands, strict=True):
                if demand[number] and not any(of_sources):
                    raise ValueError(
                        f"stage {stage['name']!r}: the language {language!r} has a weight, but all its sources have"
                        " weight 0; leave the language out of its weights, or give a source a weight"
                    )
            wanted = [demand[number] for demand in demands]
            given = allocate(wanted, weights, [self._cap(self.sources[source]) for source in members])
            if short := {s["name"]: n - sum(g) for s, n, g in zip(stages, wanted, given, strict=True) if n > sum(g)}:
                raise ValueError(self._shortage(language, sum(wanted), short))
            for stage, of_stage in zip(counts, given, strict=True):
                for source, count in zip(members, of_stage, strict=True):
                    stage[source] = count
        return counts

    def _shortage(self, language: str, wanted: int, short: Mapping[str, int]) -> str:
        length, allowed = self._mixture.sequence_length, wanted - sum(short.values())
        stages = f" (in the stages {', '.join(short)})" if self._mixture.stages else ""
        return (
            f"the run needs {wanted * length:,} tokens of {language!r}; the caps Mixture.max_epochs and"
            f" Mixture.source_max_epochs allow only {allowed * length:,}{stages}: raise the caps,"
            " give the store more text, lower the language's weight, or take fewer steps"
        )

    def _order(self, counts: list[int], language_weights: list[int], source_weights: list[int]) -> Order:
        mixture = self._mixture
        numbers = {source.name: number for number, source in enumerate(self.sources)}
        if mixture.order == "blocked":
            named = [[numbers[source] for source in block] for block in mixture.blocks]
            unnamed = set(numbers.values()).difference(*named)
            return Blocked(counts, named + [[source] for source in sorted(unnamed)])
        if mixture.chunk_rows:
            lengths = {numbers[source]: rows for source, rows in mixture.chunk_rows.items()}
            others = [0 if source in lengths else count for source, count in enumerate(counts)]
            return InChunks(counts, lengths, self._shuffled(others))
        if self._counted:
            return self._shuffled(counts)
        # By weights and not by counts: without stages and caps a row does not depend on the length of the run.
        sources = [[source_weights[source] for source in members] for members in self._by_language]
        return Shuffled(language_weights, sources)

    def _shuffled(self, counts: Sequence[int]) -> Shuffled:
        sources = [[counts[source] for source in members] for members in self._by_language]
        return Shuffled([sum(counts) for counts in sources], sources)


def _first_steps(stages: Sequence[Stage], steps: int) -> list[int]:
    """Returns the first step of each stage, and the end of the run."""
    shares = list(accumulate((stage["share"] for stage in stages), initial=0))
    first = [(2 * steps * share + shares[-1]) // (2 * shares[-1]) for share in shares]
    for stage, (begin, end) in zip(stages, pairwise(first), strict=True):
        if begin == end:
            raise ValueError(
                f"stage {stage['name']!r} has {stage['share']} of {shares[-1]} shares of {steps} steps, less than one"
                " step; raise its share, or Loop.steps"
            )
    return first
