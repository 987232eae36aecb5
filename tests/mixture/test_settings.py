"""Settings of a mixture that make no sense are refused with what to do."""

import json
from pathlib import Path

import pytest

from mindllm_jax import configuration
from mindllm_jax.mixture.settings import Mixture, Stage
from mindllm_jax.run_records import write_records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {}}, "Mixture.weights is empty"),
        ({"weights": {"zh": 0}}, r"Mixture.weights\['zh'\] must be a whole number of at least 1, not 0"),
        ({"weights": {"zh": 1.5}}, "must be a whole number of at least 1, not 1.5"),
        ({"weights": {"zh": True}}, "must be a whole number of at least 1, not True"),
        ({"source_weights": {"code": -1.0}}, r"Mixture.source_weights\['code'\] must be 0 or more, not -1.0"),
        ({"source_weights": {"code": float("nan")}}, "must be 0 or more, not nan"),
        ({"max_epochs": 0.0}, "Mixture.max_epochs must be greater than 0, not 0.0; leave it out for no cap"),
        ({"source_max_epochs": {"code": float("inf")}}, r"Mixture.source_max_epochs\['code'\] must be greater than 0"),
        ({"stages": ({"name": "a", "share": 0},)}, r"Mixture.stages\[0\]\['share'\] must be a whole number"),
        ({"stages": ({"name": "a", "share": 1, "weights": {}},)}, r"Mixture.stages\[0\].weights is empty"),
        ({"stages": ({"name": "a", "share": 1},) * 2}, "two stages of Mixture.stages have the same name"),
        ({"order": "blocked", "blocks": (("a", "b"), ("a",))}, "Mixture.blocks names 'a' twice"),
        ({"blocks": (("a",),)}, "set Mixture.order = 'blocked'"),
        ({"chunk_rows": {"a": 0}}, r"Mixture.chunk_rows\['a'\] must be a whole number of at least 1, not 0"),
        ({"chunk_rows": {"a": 2}, "order": "blocked"}, "set Mixture.order = 'shuffled'"),
        ({"sequence_length": 1}, "Mixture.sequence_length = 1: must be at least 2"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture("", **changes)  # pyright: ignore[reportArgumentType]


def test_languages_are_those_of_the_stages() -> None:
    stages = (Stage(name="a", share=1, weights={"en": 1}), Stage(name="b", share=1, weights={"de": 1}))
    assert Mixture("", stages=stages).languages() == ["de", "en"]
    assert Mixture("", stages=(Stage(name="a", share=1),)).languages() == ["en", "zh"]
    assert Mixture("", {"fr": 1}).languages() == ["fr"]


def test_a_run_writes_down_its_stages_as_they_were_given(tmp_path: Path) -> None:
    """Order and all: what is recorded gives the same mixture, from gin as from JSON."""
    file = tmp_path / "settings.gin"
    file.write_text(
        "Mixture.store = 'somewhere'\nMixture.source_weights = {'code': 2, 'mathematics': 0.5}\n"
        "Mixture.stages = [{'name': 'z', 'share': 2e0, 'weights': {'zh': 1}}, {'name': 'a', 'share': 1}]\n"
        "Mixture.blocks = [['web', 'books'], ['code']]\nMixture.order = 'blocked'\n"
    )
    given = configuration.load(Mixture, configuration.command_line("", ["--gin", str(file)]))
    assert given.stages == (Stage(name="z", share=2, weights={"zh": 1}), Stage(name="a", share=1))
    write_records(given, tmp_path)
    written = configuration.command_line("", ["--gin", str(tmp_path / "operative_config.gin")])
    assert configuration.load(Mixture, written) == given
    stored = json.loads((tmp_path / "config.json").read_text())["Mixture"]
    assert configuration.from_json(Mixture, stored) == given
