"""QLoRA: a base in four bits beside trained adapters, and the model that it leaves behind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.model.lora import Lora
from mindllm_jax.model.nf4 import NF4
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.training.load_run import load_decoder, read_run
from mindllm_jax.training.state import TrainState

QLORA = Lora(rank=4, alpha=8.0, base="nf4")


@pytest.fixture(scope="module")
def whole_blocks(tmp_path_factory: pytest.TempPathFactory, random_run: Any) -> Path:
    workdir = tmp_path_factory.mktemp("base")
    random_run(workdir, 0, heads=2, head_dim=64)
    return workdir


@pytest.fixture(scope="module")
def config(config: Tune, whole_blocks: Path) -> Tune:
    optimizer = replace(config.optimizer, peak_learning_rate=2e-2)
    return replace(config, base=str(whole_blocks), optimizer=optimizer, lora=QLORA)


@pytest.fixture(scope="module")
def tuned(config: Tune, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    workdir = tmp_path_factory.mktemp("runs") / "qlora"
    return workdir, tune(config, workdir)


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def logits(decoder: Any) -> np.ndarray:
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, decoder.config.vocab_size, (8, 24)), jnp.int32)
    return np.asarray(nnx.jit(lambda decoder, tokens: decoder.logits(decoder(tokens)))(decoder, tokens))


def test_matrices_of_the_blocks_are_held_in_four_bits(config: Tune, tuned: tuple[Path, TrainState]) -> None:
    frozen = tuned[1].frozen
    held = jax.tree.leaves(frozen, is_leaf=lambda leaf: isinstance(leaf, NF4))
    matrices = [leaf for leaf in held if isinstance(leaf, NF4)]
    assert len(matrices) == 7 and frozen["embedding"].dtype == jnp.float32
    model = config.spec().model
    weights = model.layers * (4 * model.width * 128 + 3 * model.width * model.mlp_dim)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(matrices)) == 4.5 / 8 * weights
    with_nf4, without = (replace(config, lora=lora).spec().cost for lora in (QLORA, replace(QLORA, base="compute")))
    assert with_nf4.parameters == without.parameters and with_nf4.frozen == without.frozen


def test_it_learns_as_lora_does(config: Tune, tuned: tuple[Path, TrainState], tmp_path: Path) -> None:
    found = losses(tuned[0])
    tune(replace(config, lora=replace(QLORA, base="compute")), tmp_path / "lora")
    plain = losses(tmp_path / "lora")
    assert found[0] != plain[0] and found[0] == pytest.approx(plain[0], rel=0.05)
    assert found[-1] < 0.6 * found[0] and found[-1] == pytest.approx(plain[-1], rel=0.25)


def test_what_is_loaded_is_what_was_trained(config: Tune, tuned: tuple[Path, TrainState]) -> None:
    run, state = tuned
    apart = config.spec().abstract_model.decoder(state.params, state.frozen)
    np.testing.assert_allclose(logits(load_decoder(run).decoder), logits(apart), rtol=1e-4, atol=1e-5)
    without = replace(QLORA, base="compute")
    record = read_run(run)
    other = record._replace(
        identity={**record.identity, "adapters": {**record.identity["adapters"], "base": without.base}}
    )
    assert np.abs(logits(load_decoder(other).decoder) - logits(apart)).max() > 1e-2, "the base itself is another model"


def test_a_mesh_and_remat_change_rounding_alone(config: Tune, tuned: tuple[Path, TrainState], tmp_path: Path) -> None:
    other = replace(config, mesh=MeshAxes(data=4, tensor=2))
    tune(other, tmp_path / "run", resolve_model=lambda model: replace(model, remat="full"))
    assert losses(tmp_path / "run") == pytest.approx(losses(tuned[0]), rel=1e-3)


def test_a_matrix_that_has_no_whole_blocks_is_named(config: Tune) -> None:
    narrow: Any = lambda model: replace(model, head_dim=16)  # noqa: E731
    with pytest.raises(ValueError, match=r"Lora\.base = 'nf4': blocks/attention/out has 16 inputs \(head_dim\)"):
        config.spec(narrow)
    with pytest.raises(ValueError, match=r"64 inputs \(width\), which is not a multiple of 128, .* on 2 devices"):
        replace(config, mesh=MeshAxes(fsdp=2, data=4)).spec()
