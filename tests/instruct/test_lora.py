"""LoRA: what it trains, what it leaves alone, what a run of it holds, and that it is taken as any other run."""

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
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.training.checkpoint import latest_checkpoint, restore_params
from mindllm_jax.training.load_run import base_of_adapters, load_decoder, read_run, restore_run_params
from mindllm_jax.training.state import TrainState


@pytest.fixture(scope="module")
def config(config: Tune) -> Tune:
    optimizer = replace(config.optimizer, peak_learning_rate=2e-2)
    return replace(config, optimizer=optimizer, lora=Lora(rank=4, alpha=8.0))


class Tuned:
    """A run of LoRA: its folder and its last state."""

    def __init__(self, run: Path, state: TrainState) -> None:
        self.run, self.state = run, state


@pytest.fixture(scope="module")
def tuned(config: Tune, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    workdir = tmp_path_factory.mktemp("runs") / "lora"
    return Tuned(workdir, tune(config, workdir))


def params_of(run: Path) -> dict[str, np.ndarray]:
    """Parameters by path, as a run is loaded."""
    leaves = nnx.to_flat_state(nnx.state(load_decoder(run).decoder, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in leaves}


def metrics_of(run: Path, name: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def logits(decoder: Any) -> np.ndarray:
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, decoder.config.vocab_size, (8, 24)), jnp.int32)
    return np.asarray(nnx.jit(lambda decoder, tokens: decoder.logits(decoder(tokens)))(decoder, tokens))


def test_a_run_holds_adapters_and_no_base(tuned: Tuned) -> None:
    assert tuned.state.params.keys() == {"blocks"}
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tuned.state.params)]
    assert len(names) == 14 and all("_adapter" in name for name in names)
    moments = jax.tree.leaves(tuned.state.opt_state)
    trained = sum(leaf.size for leaf in jax.tree.leaves(tuned.state.params))
    assert sum(leaf.size for leaf in moments) < 2 * trained + 10, "frozen parameters have no moments"
    stored = restore_params(latest_checkpoint(tuned.run), tuned.state.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, stored, tuned.state.params))


def test_the_frozen_base_is_the_same_bit_by_bit(tuned: Tuned, base: Path) -> None:
    before = params_of(base)
    after = nnx.to_flat_state(nnx.State(tuned.state.frozen))
    names = {"/".join(map(str, path)): np.asarray(leaf) for path, leaf in after}
    assert names.keys() == before.keys()
    assert all(np.array_equal(before[name], values) for name, values in names.items())


def test_it_starts_from_the_base_and_learns(config: Tune, tuned: Tuned, tmp_path: Path) -> None:
    losses = metrics_of(tuned.run, "loss")
    assert len(losses) == 8 and losses[-1] < 0.6 * losses[0]
    tune(replace(config, lora=Lora(), loop=replace(config.loop, steps=1)), tmp_path / "full")
    assert losses[0] == metrics_of(tmp_path / "full", "loss")[0], "B = 0"


def test_merged_logits_are_those_of_the_adapters_beside_the_base(config: Tune, tuned: Tuned, base: Path) -> None:
    model = config.spec().abstract_model
    apart, merged = model.decoder(tuned.state.params, tuned.state.frozen), load_decoder(tuned.run).decoder
    untuned = logits(load_decoder(base).decoder)
    np.testing.assert_allclose(logits(merged), logits(apart), rtol=1e-4, atol=1e-5)
    assert np.abs(logits(merged) - untuned).max() > 0.1


def test_it_resumes_from_a_checkpoint(config: Tune, tuned: Tuned) -> None:
    copy = tuned.run.with_name("interrupted")
    shutil.copytree(tuned.run, copy)
    shutil.rmtree(copy / "checkpoints/8")
    tune(config, copy)
    resumed, whole = params_of(copy), params_of(tuned.run)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    assert metrics_of(copy, "loss") == metrics_of(tuned.run, "loss")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"loop": {"grad_accum_steps": 2}, "mesh": MeshAxes(fsdp=2, tensor=4, data=1)}, id="accumulation"),
        pytest.param({"mesh": MeshAxes(data=2, fsdp=2, tensor=2)}, id="data_fsdp_tensor", marks=pytest.mark.slow),
        pytest.param({"mesh": MeshAxes(fsdp=2, context=2, tensor=2)}, id="context", marks=pytest.mark.slow),
        pytest.param({"remat": "full"}, id="remat", marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_batches_meshes_and_remat_change_rounding_alone(
    config: Tune, tuned: Tuned, tmp_path: Path, changes: dict[str, Any]
) -> None:
    remat = changes.get("remat", "none")
    other = replace(
        config,
        loop=replace(config.loop, **changes.get("loop", {})),
        mesh=changes.get("mesh", config.mesh),
    )
    tune(other, tmp_path / "run", resolve_model=lambda model: replace(model, remat=remat))
    assert metrics_of(tmp_path / "run", "loss") == pytest.approx(metrics_of(tuned.run, "loss"), rel=1e-3)


@pytest.mark.long
def test_adapters_on_a_tuned_run(config: Tune, tuned: Tuned) -> None:
    second = tuned.run.with_name("second")
    tune(replace(config, base=str(tuned.run), loop=replace(config.loop, steps=1)), second)
    assert metrics_of(second, "loss")[0] == pytest.approx(metrics_of(tuned.run, "loss")[-1], rel=0.5)
    assert base_of_adapters(read_run(second)).folder == latest_checkpoint(tuned.run)


@pytest.mark.long
def test_all_parameters_of_a_run_of_adapters_can_be_tuned(config: Tune, tuned: Tuned) -> None:
    third = tuned.run.with_name("third")
    tune(replace(config, base=str(tuned.run), lora=Lora(), loop=replace(config.loop, steps=1)), third)
    assert "adapters" not in read_run(third).identity
    before, after = params_of(tuned.run), params_of(third)
    assert before.keys() == after.keys() and all(np.abs(after[name] - before[name]).max() < 0.05 for name in before)


@pytest.mark.long
def test_the_base_is_held_in_the_compute_dtype_and_merged_in_float32(config: Tune, tmp_path: Path) -> None:
    narrow: Callable[[Model], Model] = lambda model: replace(model, compute_dtype="bfloat16")  # noqa: E731
    state = tune(replace(config, loop=replace(config.loop, steps=1)), tmp_path, resolve_model=narrow)
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(state.frozen) if leaf.ndim > 2}
    assert dtypes == {"bfloat16"} and {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert {value.dtype.name for value in params_of(tmp_path).values()} == {"float32"}


@pytest.mark.long
def test_a_missing_or_other_base_is_named(config: Tune, base: Path, tmp_path: Path) -> None:
    copy, run = tmp_path / "base", tmp_path / "lora"
    shutil.copytree(base, copy)
    tune(replace(config, base=str(copy), loop=replace(config.loop, steps=1)), run)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in (copy, run):
        shutil.move(folder, moved)
    params_of(moved / "lora")  # both moved together
    of_base = latest_checkpoint(moved / "base")
    (of_base / "checksums.json").write_text((of_base / "checksums.json").read_text() + "\n")
    with pytest.raises(
        ValueError, match=r"base/checkpoints/7 is not the checkpoint that the adapters in .*lora.* were"
    ):
        load_decoder(moved / "lora")
    of_base.rename(of_base.with_name("9"))
    with pytest.raises(FileNotFoundError, match=r"lora holds adapters of a base run, step 7 of .*put the base back"):
        load_decoder(moved / "lora")


def test_resuming_with_another_scale_is_refused(config: Tune, tuned: Tuned) -> None:
    with pytest.raises(ValueError, match=r"does not match this run:\n  adapters\.alpha: was 8\.0, is now 16\.0"):
        tune(replace(config, lora=Lora(rank=4, alpha=16.0)), tuned.run)


def test_the_parameters_of_a_run_fit_any_mesh(tuned: Tuned, config: Tune) -> None:
    full = replace(config, lora=Lora(), mesh=MeshAxes(fsdp=4, tensor=2)).spec()
    spread = restore_run_params(read_run(tuned.run), full.abstract_state.params)
    one = params_of(tuned.run)
    for path, leaf in jax.tree_util.tree_leaves_with_path(spread):
        np.testing.assert_allclose(np.asarray(leaf), one["/".join(part.key for part in path)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": -1}, r"Lora\.rank"),
        ({"alpha": 0.0}, r"Lora\.alpha = 0\.0: must be greater"),
        ({"targets": ()}, r"Lora\.targets = \(\): name one"),
        ({"targets": ("up", "up")}, "each once"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lora(**changes)
