"""QLoRA: a base in four bits beside trained adapters, and the model that it leaves behind."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.model.config import Model
from mindllm_jax.model.lora import Lora
from mindllm_jax.model.nf4 import NF4
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.training.load_run import load_decoder, read_run
from mindllm_jax.training.state import TrainState

QLORA = Lora(rank=4, alpha=8.0, base="nf4")


@pytest.fixture(scope="module")
def whole_blocks(tmp_path_factory: pytest.TempPathFactory, random_run: Any) -> Path:
    workdir = tmp_path_factory.mktemp("base")
    random_run(workdir, 0, width=128, heads=2, head_dim=64)
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
    apart = logits(config.spec().abstract_model.decoder(state.params, state.frozen))
    np.testing.assert_allclose(logits(load_decoder(run).decoder), apart, rtol=1e-4, atol=1e-5)
    record = read_run(run)
    adapters = {name: value for name, value in record.identity["adapters"].items() if name != "base"}
    unquantized = record._replace(identity={**record.identity, "adapters": adapters})
    assert np.abs(logits(load_decoder(unquantized).decoder) - apart).max() > 1e-2


@pytest.mark.long
def test_a_base_that_was_held_in_bfloat16_is_loaded_as_it_was(config: Tune, tmp_path: Path) -> None:
    narrow: Callable[[Model], Model] = lambda model: replace(model, compute_dtype="bfloat16")  # noqa: E731
    one_step = replace(config, loop=replace(config.loop, steps=1))
    state = tune(one_step, tmp_path / "run", resolve_model=narrow)
    held = state.frozen["blocks"]["mlp"]["up"].dequantized(jnp.float32)
    adapter = state.params["blocks"]["mlp"]["up_adapter"]
    expected = held + QLORA.scale * jnp.einsum("lir,lro->lio", adapter["a"], adapter["b"])
    loaded = load_decoder(tmp_path / "run").decoder  # in float32
    np.testing.assert_allclose(loaded.blocks.mlp.up[...], expected, rtol=1e-5, atol=1e-6)


def test_it_resumes_from_a_checkpoint(config: Tune, tuned: tuple[Path, TrainState]) -> None:
    copy = tuned[0].with_name("interrupted")
    shutil.copytree(tuned[0], copy)
    shutil.rmtree(copy / "checkpoints/8")
    resumed = tune(config, copy)
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed.params, tuned[1].params))


@pytest.mark.parametrize(
    ("accumulate", "mesh"),
    [
        pytest.param(2, MeshAxes(data=2, fsdp=2, tensor=2), id="accumulation"),
        pytest.param(1, MeshAxes(data=2, fsdp=1, context=2, tensor=2), id="context", marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_meshes_batches_and_remat_change_rounding_alone(
    config: Tune, tuned: tuple[Path, TrainState], tmp_path: Path, accumulate: int, mesh: MeshAxes
) -> None:
    other = replace(config, mesh=mesh, loop=replace(config.loop, grad_accum_steps=accumulate))
    tune(other, tmp_path / "run", resolve_model=lambda model: replace(model, remat="full"))
    assert losses(tmp_path / "run") == pytest.approx(losses(tuned[0]), rel=1e-3)


def test_a_run_is_loaded_on_a_mesh_that_splits_blocks(tuned: tuple[Path, TrainState]) -> None:
    split = load_decoder(tuned[0], sharding=Sharding(MeshAxes(fsdp=8, data=1).build()))  # 16 of 128 inputs
    np.testing.assert_allclose(logits(split.decoder), logits(load_decoder(tuned[0]).decoder), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_windows_learned_positions_and_biases(config: Tune, tmp_path: Path, random_run: Any) -> None:
    """GPT-Neo's design, whose stack of blocks is reshaped."""
    gpt = {"positions": "learned", "norm": "layernorm", "residual": "pre_norm", "mlp": "gelu", "windows": (None, 16)}
    random_run(tmp_path / "base", 0, heads=1, head_dim=64, biases=("attention_out", "mlp"), **gpt)
    other = replace(config, base=str(tmp_path / "base"))
    state = tune(other, tmp_path / "run")
    apart = other.spec().abstract_model.decoder(state.params, state.frozen)
    np.testing.assert_allclose(logits(load_decoder(tmp_path / "run").decoder), logits(apart), rtol=1e-4, atol=1e-5)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]


def test_a_matrix_that_has_no_whole_blocks_is_named(config: Tune) -> None:
    narrow: Any = lambda model: replace(model, head_dim=16)  # noqa: E731
    with pytest.raises(ValueError, match=r"blocks/attention/out has 16 inputs \(head_dim\), and NF4 takes .*: take"):
        config.spec(narrow)
    wide = (
        r"blocks/.* has 128 inputs \(width\) in 4 parts, by MeshAxes\.fsdp and MeshAxes\.context, .*: split it less, or"
    )
    with pytest.raises(ValueError, match=wide):
        replace(config, mesh=MeshAxes(fsdp=4, data=2)).spec()
