"""Which prefixes are shared, and in which rows: against all choices, and against the sequences themselves."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from numerics import SEED

from mindllm_jax.evaluation import prefix_rows
from mindllm_jax.evaluation.prefix_rows import Levels, Row, rows_of, shared_levels
from mindllm_jax.evaluation.prefixes import Shared, common_lengths, shared_prefixes

Sequences = list[np.ndarray]


def ordered(sequences: list[list[int]]) -> Sequences:
    return [np.array(sequence, np.int32) for sequence in sorted(sequences)]


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_saves_as_much_as_any(seed: int) -> None:
    random = np.random.default_rng((SEED, seed))
    sequences = ordered([random.integers(0, 2, random.integers(1, 6)).tolist() for _ in range(9)])
    common = common_lengths(sequences)
    price = int(random.integers(0, 4))

    def saved(shared: Shared) -> int:
        return max(0, (shared.stop - shared.start - 1) * shared.length - price)

    @lru_cache
    def most(start: int) -> int:
        """Of all ways to cut the sequences from number `start` into neighbours that share all that they can."""
        if start == len(sequences):
            return 0
        shared = (Shared(min(common[start : stop - 1]), start, stop) for stop in range(start + 2, len(sequences) + 1))
        return max([most(start + 1), *(saved(choice) + most(choice.stop) for choice in shared)])

    choice = shared_prefixes(common, saved)
    assert sum(map(saved, choice)) == most(0)
    for shared in choice:
        assert len({tuple(sequences[n][: shared.length]) for n in range(shared.start, shared.stop)}) == 1
    assert all(one.stop <= other.start for one, other in pairwise(choice))


def few_shot(random: np.random.Generator) -> Sequences:
    """Three subjects whose questions share examples, answers that share questions, and texts that share nothing."""

    def ids(most: int, least: int = 1) -> list[int]:
        return random.integers(0, 300, random.integers(least, most)).tolist()

    sequences: list[list[int]] = [ids(60) for _ in range(5)]
    for _ in range(3):
        examples = ids(30, 16)
        for _ in range(int(random.integers(4, 30))):
            question = [*examples, *ids(24, 16)]
            sequences += [[*question, *ids(8)] for _ in range(random.integers(1, 4))]
    return ordered(sequences)


def read(batch: list[Row]) -> dict[int, list[int]]:
    """The sequences of a batch, from their segments and prefixes."""
    found: dict[int, list[int]] = {}
    for row in batch:
        for index, segment in enumerate(row.segments):
            before: list[int] = []
            if segment.far:
                prefix = batch[row.far_row].segments[0]
                assert prefix.sequence is None and prefix.position == 0
                before += prefix.tokens.tolist()
            if segment.near is not None:
                trunk = row.segments[index - segment.near]
                assert trunk.sequence is None and trunk.position == len(before) and trunk.far == segment.far
                before += trunk.tokens.tolist()
            assert segment.position == len(before)
            if segment.sequence is not None:
                found[segment.sequence] = [*before, *segment.tokens.tolist()]
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_rows_hold_every_sequence_once(seed: int, count: int) -> None:
    sequences = few_shot(np.random.default_rng((SEED, seed)))
    levels = shared_levels(sequences, [len(ids) - 1 for ids in sequences], 64, far=count > 1)
    assert levels.near and bool(levels.far) == (count > 1)
    batches = rows_of(sequences, levels, 64, count)
    assert all(len(batch) <= count for batch in batches)
    sizes = [sum(len(segment.tokens) for segment in row.segments) for batch in batches for row in batch]
    assert max(sizes) <= 64
    if count > 2:  # with two rows, a prefix is in every second one
        assert sum(sizes) < 0.6 * sum(map(len, sequences))
    found = [item for batch in batches for item in read(batch).items()]
    assert sorted(found) == [(number, ids.tolist()) for number, ids in enumerate(sequences)]


def test_a_level_that_saves_little_is_not_used() -> None:
    random = np.random.default_rng(SEED)
    pair = random.integers(0, 300, 40).tolist()
    alone = [random.integers(0, 300, 50).tolist() for _ in range(40)]
    few = ordered([[*pair, 1, 2], [*pair, 3, 4], *alone])
    assert shared_levels(few, [len(ids) - 1 for ids in few], 64) == Levels([], [])
    many = ordered([[*pair, 1, 2], [*pair, 3, 4], *alone[:4]])
    assert shared_levels(many, [len(ids) - 1 for ids in many], 64).near
    short = ordered([[*pair[: prefix_rows.SHORTEST - 1], n, n] for n in range(40)])
    assert shared_levels(short, [len(ids) - 1 for ids in short], 64) == Levels([], [])


def test_tokens_that_are_asked_are_not_shared() -> None:
    many = ordered([[*range(40), n] for n in range(60)])
    assert shared_levels(many, [30] * len(many), 64).far == [Shared(30, 0, 60)]
