"""Replayed pre-training text in a tuning run, and the text that the run forgets."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindllm_jax.evaluation.bits_per_byte import held_out_bits
from mindllm_jax.evaluation.forgetting import base_ability
from mindllm_jax.instruct.replay import Replay, pretraining_text
from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.model.lora import Lora
from mindllm_jax.reporting.run import run_report
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.checkpoint import Checkpointing
from mindllm_jax.training.load_run import load_decoder, read_run
from mindllm_jax.training.loop import Periodic


@pytest.fixture
def config(config: Tune, text_store: TokenStore) -> Tune:
    return replace(
        config,
        loop=replace(config.loop, steps=2, evaluate_every=2),
        checkpointing=Checkpointing(),
        lora=Lora(rank=2),
        replay=Replay(share=0.25, store=text_store.url),
        greedy_prompts=0,
    )


@pytest.mark.long
def test_a_run_replays_text_and_reports_what_it_forgot(config: Tune, base: Path, tmp_path: Path) -> None:
    workdir, ability = tmp_path / "run", base_ability(config)
    assert ability is not None
    tune(config, workdir, [Periodic(config.loop.evaluate_every, ability, before=True)])
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    bits = {line["step"]: line for line in lines if "bits_per_byte/zh" in line}
    assert bits.keys() == {0, 2}
    expected = ability(load_decoder(base).decoder)
    assert all(bits[0][name] == pytest.approx(value, rel=1e-5) for name, value in expected.items())
    tuned = ability(load_decoder(workdir).decoder)
    assert bits[2]["bits_per_byte/zh"] == pytest.approx(tuned["bits_per_byte/zh"], rel=1e-4)
    replay = read_run(workdir).identity["data"]["replay"]
    assert replay["share"] == 0.25 and replay["sources"].keys() == {"fixture_zh", "fixture_en"}
    page = run_report(workdir).read_text("utf-8")
    assert "Forgetting" in page and "difference" in page
    with pytest.raises(ValueError, match=r"data\.replay\.share: was 0\.25, is now 0\.5"):
        tune(replace(config, replay=replace(config.replay, share=0.5)), workdir)


def test_the_text_is_mixed_as_in_pretraining(config: Tune, base: Path, text_store: TokenStore) -> None:
    record = read_run(base)
    other = pretraining_text(record, config.replay, 64, seed=3)
    assert (other.mixture.weights, other.mixture.sequence_length) == ({"en": 1, "zh": 1}, 64)
    recorded = {"data": {"store": text_store.url, "weights": {"zh": 3, "en": 1}, "max_epochs": 1.0}}
    own = pretraining_text(record._replace(identity={**record.identity, "Pretrain": recorded}), Replay(), 32, seed=3)
    assert own.mixture.weights == {"zh": 3, "en": 1} and own.mixture.max_epochs is None and own.mixture.seed == 3
    with pytest.raises(ValueError, match=r"does not record the token store .*: set Replay\.store"):
        pretraining_text(record._replace(identity={}), Replay(), 32, seed=3)


def test_a_missing_store(config: Tune, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stops a run that replays it; a run that does not only warns that forgetting is not measured."""
    with caplog.at_level(logging.WARNING):
        assert base_ability(replace(config, replay=Replay())) is None
    assert "forgetting is not measured" in caplog.text and "somewhere" in caplog.text
    with pytest.raises((OSError, ValueError), match="nowhere"):
        tune(replace(config, replay=Replay(0.5, str(tmp_path / "nowhere"))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_measure_is_that_of_pretraining(config: Tune, base: Path, text_store: TokenStore) -> None:
    decoder, ability = load_decoder(base).decoder, base_ability(config)
    assert ability is not None
    mixture = pretraining_text(read_run(base), config.replay, 64, 0).mixture
    assert ability(decoder) == held_out_bits(mixture, text_store)(decoder)


@pytest.mark.parametrize("share", [-0.1, 1.0, np.nan])
def test_shares_that_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"Replay\.share = .*: must be at least 0 and below 1"):
        Replay(share)
