"""Measures of multiple-choice items against plain formulas in float64."""

import json
import math

import numpy as np
import pytest

from mindllm_jax.evaluation.measures import (
    ScoredItem,
    chance,
    item_measures,
    mean,
    means,
    probabilities,
    sample_measures,
    scored_item,
)


def items(seed: int, count: int = 40) -> list[ScoredItem]:
    """Items of 2 to 5 choices with random log-likelihoods, half of them with those without the prompt."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        size = int(generator.integers(2, 6))
        logs, alone = -generator.gamma(3.0, 20.0, (2, size))
        right = tuple(generator.choice(size, 1 + number % 2, replace=False).tolist())
        made.append(ScoredItem(logs, alone, generator.integers(1, 60, size).astype(float), right))
    return made


def test_measures_of_one_item() -> None:
    logs = np.log([0.5, 0.25, 0.125])
    item = ScoredItem(logs, np.log([0.9, 0.25, 0.001]), np.array([1.0, 4.0, 8.0]), (2,))
    found = item_measures(item)
    assert found["acc"] == 0 and found["acc_bytes"] == 1 and found["acc_mutual_info"] == 1
    assert found["probability"] == pytest.approx(0.125 / 0.875, rel=1e-14)
    assert found["bits_per_byte"] == pytest.approx(3 / 8, rel=1e-14)
    assert "acc_mutual_info" not in item_measures(item._replace(alone=None))
    both = item_measures(item._replace(right=(1, 2)))
    assert both["probability"] == pytest.approx(3 / 7, rel=1e-14) and both["bits_per_byte"] == pytest.approx(2 / 4)


def test_the_first_of_equal_choices_counts() -> None:
    """As the harness decides; a model without an opinion is then no better than where the right answers stand."""
    same = ScoredItem(np.full(4, -3.0), None, np.ones(4), (0,))
    assert item_measures(same)["acc"] == 1 and item_measures(same._replace(right=(1,)))["acc"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_invariances(seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    for item in items(seed):
        found = item_measures(item)
        assert probabilities(item).sum() == pytest.approx(1, rel=1e-14)
        shifted = item_measures(item._replace(logs=item.logs - 700.0))
        assert (shifted["acc"], shifted["probability"]) == (
            found["acc"],
            pytest.approx(found["probability"], rel=1e-10),
        )
        order = generator.permutation(len(item.logs))
        assert item.alone is not None
        places = tuple(int(np.flatnonzero(order == right)[0]) for right in item.right)
        moved = ScoredItem(item.logs[order], item.alone[order], item.sizes[order], places)
        assert item_measures(moved) == pytest.approx(found, rel=1e-12)
        # Choices of one size: per byte is no other order, and the bits of the right one are those of its text.
        even = item_measures(item._replace(sizes=np.full(len(item.logs), 7.0)))
        assert even["acc_bytes"] == found["acc"]
        assert even["bits_per_byte"] * 7 * math.log(2) == pytest.approx(-max(item.logs[list(item.right)]), rel=1e-12)


def test_means_and_standard_errors() -> None:
    many = items(7)
    each = [item_measures(item) for item in many]
    found = means(each)
    values = [one["probability"] for one in each]
    assert found["probability"].value == pytest.approx(math.fsum(values) / 40, rel=1e-13)
    variance = math.fsum((value - found["probability"].value) ** 2 for value in values) / 39
    assert found["probability"].error == pytest.approx(math.sqrt(variance / 40), rel=1e-12)
    share = found["acc"].value
    assert found["acc"].error == pytest.approx(math.sqrt(share * (1 - share) / 39), rel=1e-12)
    without = item_measures(many[0]._replace(alone=None))
    assert "acc_mutual_info" in found and "acc_mutual_info" not in means([without, *each[1:]])
    assert means([]) == {}
    value, error = mean([0.25])
    assert value == 0.25 and math.isnan(error)


def test_chance_is_the_mean_of_what_a_model_without_an_opinion_gets() -> None:
    many = [item._replace(logs=np.zeros(len(item.logs))) for item in items(3)]
    expected = sum(len(item.right) / len(item.logs) for item in many) / len(many)
    assert chance(many) == pytest.approx(expected, rel=1e-13)
    assert means([item_measures(item) for item in many])["probability"].value == pytest.approx(expected, rel=1e-13)


def test_an_item_is_read_from_memory_and_from_a_file() -> None:
    """The harness writes numbers as texts."""
    record = {
        "filtered_resps": [(-1.5, True), (-2.25, False), (-0.5, False), (-4.0, False)],
        "choices": ["好", "bad"],
        "right": [1],
    }
    written = record | {"filtered_resps": [["-1.5", "True"], ["-2.25", "False"], ["-0.5", "False"], ["-4.0", "False"]]}
    for sample in (record, json.loads(json.dumps(written))):
        logs, alone, sizes, right = scored_item(sample)
        assert logs.tolist() == [-1.5, -2.25] and alone is not None and alone.tolist() == [-0.5, -4.0]
        assert sizes.tolist() == [3, 3] and right == (1,)


def test_an_answer_alone_has_bits_and_no_accuracy_of_ours() -> None:
    """The harness's accuracy is whether greedy decoding gives the answer, which no choice of one tells."""
    record = {"filtered_resps": [(-2.0, False)], "choices": [" 河"], "target": " 河"}
    assert sample_measures(record) == {"bits_per_byte": pytest.approx(2.0 / math.log(2) / 4, rel=1e-14)}
    assert sample_measures({"filtered_resps": ["42"], "target": "42"}) == {}
    chosen = {"filtered_resps": [(-2.0, False), (-1.0, True)], "choices": ["a", "b"], "right": [1]}
    assert sample_measures(chosen) == item_measures(scored_item(chosen))
