"""Settings of a mixture that make no sense are refused with what to do."""

import pytest

from mindllm_jax.data.mixture import Mixture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {}}, "Mixture.weights is empty"),
        ({"weights": {"zh": 0}}, r"Mixture.weights\['zh'\] must be a whole number of at least 1, not 0"),
        ({"weights": {"zh": 1.5}}, "must be a whole number of at least 1, not 1.5"),
        ({"weights": {"zh": True}}, "must be a whole number of at least 1, not True"),
        ({"sequence_length": 1}, "Mixture.sequence_length must be at least 2, not 1"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture("", **changes)  # pyright: ignore[reportArgumentType]


def test_languages_are_those_of_the_stages() -> None:
    stages = ({"name": "a", "share": 1, "weights": {"en": 1}}, {"name": "b", "share": 1, "weights": {"de": 1}})
    assert Mixture("", stages=stages).languages() == ["de", "en"]
    assert Mixture("", stages=({"name": "a", "share": 1},)).languages() == ["en", "zh"]
    assert Mixture("", {"fr": 1}).languages() == ["fr"]
