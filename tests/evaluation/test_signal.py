import math

import numpy as np
import pytest

from mindllm_jax.evaluation.signal import scores_of, signal


def test_signal_and_noise_of_planted_scores() -> None:
    """Models at 0.3, 0.4 and 0.5, each with a deviation of 0.01 over its checkpoints."""
    deviations = np.array([-1, 0, 1]) * 0.01
    found = signal({str(mean): (mean + deviations).tolist() for mean in (0.3, 0.4, 0.5)})
    assert found.scores == pytest.approx({"0.3": 0.3, "0.4": 0.4, "0.5": 0.5})
    assert found.signal == pytest.approx(0.2 / 0.4) and found.noise == pytest.approx(0.01 / 0.4)
    assert found.ratio == pytest.approx(20)


def test_differences_between_models_are_no_noise() -> None:
    assert signal({"a": [1.0, 1.0], "b": [3.0, 3.0]}).ratio == math.inf


def test_the_noise_is_that_of_draws() -> None:
    generator = np.random.default_rng(0)
    scores = {str(m): generator.normal(m, s, 2000).tolist() for m, s in ((1, 0.3), (2, 0.4))}
    assert signal(scores).noise == pytest.approx(math.sqrt((0.09 + 0.16) / 2) / 1.5, rel=0.05)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": [1.0, 2.0]}, "a difference between models, and there is a alone"),
        ({"a": [1.0, 2.0], "b": [1.0]}, "b has 1 checkpoints: the noise needs two or more"),
        ({"a": [1.0, 1.0], "b": [-1.0, -1.0]}, "the mean of the scores is 0"),
    ],
)
def test_too_little_is_refused(scores: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        signal(scores)


def test_scores_of_an_evaluation() -> None:
    result = {
        "step": 7,
        "bits_per_byte": {"en": 2.0},
        "tasks": {"t": {"acc": 0.25, "acc_stderr": 0.1, "items": 20, "cut_requests": 0, "chance": 0.25}},
    }
    assert scores_of(result) == {"bits per byte, en": 2.0, "acc, t": 0.25}
