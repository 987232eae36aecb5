"""Bradley-Terry scores on Elo's scale by the library evalica, with 95% intervals.

A rating is 1000 + 400 log10(score / geometric mean of the scores), so that a difference of 400 means ten wins to one; a
tie is half a win for each. All models tie on one more prompt than there are: a model that always wins would have an
infinite score otherwise, for which evalica returns some finite number without a word.

The bootstrap resamples prompts: the pairs of a prompt share its answers, so that they are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.instruct.ranking.comparisons import Judgement


class Rating(NamedTuple):
    """The rating of a model, its judgements, and its 95% interval; None where the judgements give none."""

    name: str
    rating: float
    interval: tuple[float, float] | None
    wins: int
    ties: int
    losses: int


class Ratings(NamedTuple):
    """The ratings of the models, the highest first, and a note on what the judgements leave open; "" where nothing."""

    models: list[Rating]
    note: str


def evalica() -> Any:
    """Imports and returns the library evalica. Raises ImportError where it is not installed."""
    try:
        import evalica
    except ImportError:
        raise ImportError("a ranking needs evalica; install mindllm-jax[rank]") from None
    return evalica


def rate(names: Sequence[str], judgements: Sequence[Judgement], *, resamples: int, seed: int) -> Ratings:
    """Returns the ratings of the models.

    There are no intervals of a single prompt, nor where one side always won: every resample would say the same.

    Raises ValueError where there is no judgement.
    """
    if not judgements:
        raise ValueError("there is no judgement, so there is nothing to rank")
    wins, ties = _counts(names, judgements)
    credits = wins + ties / 2  # of each prompt
    ratings = _ratings(credits.sum(axis=0))
    groups = _groups(credits.sum(axis=0))
    intervals, note = None, ""
    if len(groups) > 1:
        listing = " | ".join(", ".join(names[one] for one in group) for group in groups)
        note = (
            f"The models fall into groups between which one side always won, or nothing was judged: {listing}. How far "
            "these are apart is not known, and there are no intervals: the distance rests on the added ties."
        )
    elif len(credits) > 1:
        draw, each = np.random.default_rng(seed), np.full(len(credits), 1 / len(credits))
        counts = draw.multinomial(len(credits), each, resamples)
        drawn = np.tensordot(counts, credits, axes=1)
        intervals = np.quantile([_ratings(some) for some in drawn], [0.025, 0.975], axis=0)
        one_sided = sum(len(_groups(some)) > 1 for some in drawn)
        if one_sided > 0.025 * resamples:
            note = (
                f"In {one_sided} of {resamples} resamples one side always won: the intervals are too narrow, because "
                "their outer ends rest on the added ties. Judge more prompts."
            )
    won, tied, lost = wins.sum((0, 2)), ties.sum((0, 2)), wins.sum((0, 1))
    rated = [
        Rating(
            name,
            float(ratings[one]),
            None if intervals is None else (float(intervals[0, one]), float(intervals[1, one])),
            int(won[one]),
            int(tied[one]),
            int(lost[one]),
        )
        for one, name in enumerate(names)
    ]
    return Ratings(sorted(rated, key=lambda one: -one.rating), note)


def _groups(credits: np.ndarray) -> list[tuple[int, ...]]:
    """Returns the models in groups: of one each took a win or a tie from the other, perhaps through models between."""
    reach = (credits > 0) | np.eye(len(credits), dtype=bool)
    for _ in credits:
        reach = reach @ reach
    return sorted({tuple(np.flatnonzero(row).tolist()) for row in reach & reach.T})


def _counts(names: Sequence[str], judgements: Sequence[Judgement]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the wins of i over j and their ties by prompt: [P N N], for the prompts with a judgement."""
    places = {name: number for number, name in enumerate(names)}
    prompts = {id: number for number, id in enumerate(dict.fromkeys(one.id for one in judgements))}
    wins, ties = np.zeros((2, len(prompts), len(names), len(names)))
    for one in judgements:
        prompt, first, second = prompts[one.id], places[one.first], places[one.second]
        if one.winner == "tie":
            ties[prompt, [first, second], [second, first]] += 1
        elif one.winner == "first":
            wins[prompt, first, second] += 1
        else:
            wins[prompt, second, first] += 1
    return wins, ties


def _ratings(credits: np.ndarray) -> np.ndarray:
    """Returns the ratings by the credits of i against j, with a tie of every pair added."""
    library, count = evalica(), len(credits)
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    result = library.bradley_terry(
        first.tolist(),
        second.tolist(),
        [library.Winner.X] * len(first),
        weights=(credits[first, second] + 0.5).tolist(),
        tolerance=1e-9,
        limit=10_000,
    )
    logs = np.log10(result.scores.reindex(range(count)).to_numpy())
    return 1000 + 400 * (logs - logs.mean())
