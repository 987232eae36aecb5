"""Ratings: planted strengths, intervals that cover, and comparisons that leave distances open."""

import numpy as np
import pytest

from mindllm_jax.instruct.ranking.comparisons import Judgement, Winner
from mindllm_jax.instruct.ranking.ratings import rate

pytest.importorskip("evalica", reason="evalica (the extra `rank`) is not installed")

NAMES = ["a", "b", "c", "d"]
STRENGTHS = np.array([4.0, 2.0, 1.0, 0.5])


def planted(prompts: int, seed: int, ties: float = 0.2) -> list[Judgement]:
    """Draws judgements of every pair by the strengths."""
    draw, found = np.random.default_rng(seed), list[Judgement]()
    for prompt in range(prompts):
        for i in range(4):
            for j in range(i):
                if draw.random() < ties:
                    found.append(Judgement(str(prompt), NAMES[i], NAMES[j], "tie"))
                    continue
                is_first = draw.random() < STRENGTHS[i] / (STRENGTHS[i] + STRENGTHS[j])
                found.append(Judgement(str(prompt), NAMES[i], NAMES[j], "first" if is_first else "second"))
    return found


def truth() -> np.ndarray:
    logs = np.log10(STRENGTHS)
    return 1000 + 400 * (logs - logs.mean())


def test_planted_strengths_are_recovered() -> None:
    rated, note = rate(NAMES, planted(400, seed=1, ties=0.0), resamples=20, seed=0)
    assert not note
    assert [one.name for one in rated] == NAMES
    assert np.abs(np.array([one.rating for one in rated]) - truth()).max() < 40
    for one in rated:
        assert one.interval is not None and one.interval[0] < one.rating < one.interval[1]
        assert one.wins + one.ties + one.losses == 1200
    assert rate(NAMES, planted(400, seed=1, ties=0.0), resamples=20, seed=0).models == rated


def test_two_models_by_hand() -> None:
    # 9 wins, 2 ties and 1 loss, and one more tie: 10.5 to 2.5.
    counts: dict[Winner, int] = {"first": 9, "tie": 2, "second": 1}
    judged = [Judgement(f"{winner} {n}", "x", "y", winner) for winner, count in counts.items() for n in range(count)]
    first, second = rate(["y", "x"], judged, resamples=5, seed=0).models
    assert (first.name, first.wins, first.ties, first.losses) == ("x", 9, 2, 1)
    assert (second.name, second.wins, second.ties, second.losses) == ("y", 1, 2, 9)
    assert first.rating - second.rating == pytest.approx(400 * np.log10(10.5 / 2.5), abs=1e-3)
    assert first.rating + second.rating == pytest.approx(2000)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(25):
        rated = {
            one.name: one for one in rate(NAMES, planted(60, seed=trial, ties=0.0), resamples=60, seed=trial).models
        }
        for name, value in zip(NAMES, truth(), strict=True):
            low, high = rated[name].interval or (np.nan, np.nan)
            covered += low <= value <= high
    assert 86 <= covered <= 100


def test_pairs_of_a_prompt_are_resampled_together() -> None:
    draw = np.random.default_rng(0)
    once = [Judgement(str(n), "x", "y", "first" if draw.random() < 0.6 else "second") for n in range(50)]

    def width(judged: list[Judgement]) -> float:
        low, high = rate(["x", "y"], judged, resamples=300, seed=0).models[0].interval or (np.nan, np.nan)
        return high - low

    assert width(once * 9) > 0.9 * width(once), "nine people who agree are not nine times the prompts"


def test_a_model_that_always_wins_has_a_finite_rating_and_a_note() -> None:
    judged = [Judgement(str(n), "best", other, "first") for n in range(30) for other in ("y", "z")]
    judged += [Judgement(str(n), "y", "z", "first" if n % 2 else "second") for n in range(30)]
    (best, *others), note = rate(["y", "best", "z"], judged, resamples=20, seed=0)
    assert best.name == "best" and 1000 < best.rating < 3000
    assert all(one.interval is None for one in (best, *others)) and "y, z | best" in note
    lucky = [*judged, Judgement("30", "y", "best", "first")]
    (best, *_), note = rate(["y", "best", "z"], lucky, resamples=200, seed=0)
    assert best.interval is not None and "of 200 resamples one side always won" in note


def test_models_that_nothing_links_have_a_note() -> None:
    judged = [Judgement("1", "a", "b", "tie"), Judgement("2", "c", "d", "tie")]
    assert "a, b | c, d" in rate(NAMES, judged, resamples=5, seed=0).note
    around = [Judgement("1", "a", "b", "first"), Judgement("1", "b", "c", "first"), Judgement("1", "c", "a", "first")]
    assert rate(["a", "b", "c"], around, resamples=5, seed=0).note == ""


def test_one_prompt_has_no_interval_and_none_has_no_rating() -> None:
    assert rate(["a", "b"], [Judgement("1", "a", "b", "tie")], resamples=5, seed=0).models[0].interval is None
    with pytest.raises(ValueError, match="there is no judgement"):
        rate(["a", "b"], [], resamples=5, seed=0)
