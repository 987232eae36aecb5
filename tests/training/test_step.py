"""The step: exact gradients, accumulation, decay, and what happens to a step without a finite loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.rows import Batch
from mindllm_jax.training.optimizer import Optimizer, Role, roles_of
from mindllm_jax.training.state import TrainState, abstract_model, initial_params, initial_state
from mindllm_jax.training.step import loss_sums, make_step

TINY = Model(vocab_size=62, layers=2, width=16, heads=2, head_dim=8, mlp_dim=24, max_seq_len=16)
WIDE = dataclasses.replace(TINY, compute_dtype="float64")
pytestmark = pytest.mark.long


@pytest.fixture
def batch() -> Batch:
    """Rows of two documents each, the last padded, for TINY; no two documents begin alike and then differ."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, TINY.vocab_size, (4, 12), dtype=np.int32)
    segments = np.where(np.arange(12) < 5, 1, 2).astype(np.int32) * np.ones((4, 1), np.int32)
    segments[3, 9:] = 0
    positions = np.where(np.arange(12) < 5, np.arange(12), np.arange(12) - 5).astype(np.int32) * np.ones_like(segments)
    weights = (segments > 0).astype(np.float32)
    return Batch(tokens, np.roll(tokens, -1, axis=1), weights, segments, positions)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def widened(batch: Batch) -> Batch:
    return batch._replace(weights=batch.weights.astype(np.float64))


def ready(model, optimizer: Optimizer, devices: int = 1, mesh: MeshAxes | None = None, **settings):
    abstract = abstract_model(model, Sharding((mesh or MeshAxes()).build(jax.devices()[:devices])))
    transformation = optimizer.build(100, abstract.roles)
    state = initial_state(initial_params(model, abstract, seed=SEED), abstract, transformation)
    return state, make_step(abstract, transformation, **settings), abstract


def test_gradients_agree_with_finite_differences_in_float64(x64, batch):
    decoder = Decoder(WIDE, rngs=nnx.Rngs(SEED))
    definition, params = nnx.split(decoder, nnx.Param)
    batch = widened(batch)

    def loss(params):
        return loss_sums(nnx.merge(definition, params), batch, z_loss=0.1).loss

    grads, evaluate = jax.grad(loss)(params), jax.jit(loss)
    rng = np.random.default_rng(SEED)
    leaves, tree = jax.tree.flatten(params)
    for index, leaf in enumerate(leaves):
        direction = rng.normal(size=leaf.shape)
        step = 3e-6

        def moved(by: float, index=index, direction=direction):
            return tree.unflatten([x + by * direction if i == index else x for i, x in enumerate(leaves)])

        expected = (evaluate(moved(step)) - evaluate(moved(-step))) / (2 * step)
        grad = np.asarray(jax.tree.leaves(grads)[index])
        # Relative to what a direction's derivative is on average: one may be nearly zero.
        np.testing.assert_allclose(np.sum(grad * direction), expected, rtol=0, atol=1e-6 * float(np.linalg.norm(grad)))


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("adamw", MeshAxes()),
        ("adamw", MeshAxes(data=2, fsdp=-1)),
        ("adamw", MeshAxes(data=1, fsdp=2, tensor=2)),
        ("muon", MeshAxes(data=1, fsdp=2, tensor=2)),
    ],
    ids=str,
)
def test_accumulation_and_mesh_change_only_the_order_of_summation(x64, batch, name, mesh):
    batch = widened(Batch(*(np.concatenate([field, field[::-1]]) for field in batch)))
    optimizer = Optimizer(name=name, peak_learning_rate=1e-2, warmup_steps=0)
    reference, step, _ = ready(WIDE, optimizer)
    sharded, sharded_step, abstract = ready(WIDE, optimizer, devices=4, mesh=mesh, grad_accum_steps=2)
    rows = abstract.sharding.named("batch", "length")
    for _ in range(3):
        reference, metrics = step(reference, batch)
        sharded, sharded_metrics = sharded_step(sharded, jax.device_put(batch, rows))
        np.testing.assert_allclose(sharded_metrics.loss, metrics.loss, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), sharded.params, reference.params)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_small_model_learns_one_batch_by_heart(name, batch):
    model = dataclasses.replace(TINY, width=32, mlp_dim=64, compute_dtype="float32")
    state, step, _ = ready(model, Optimizer(name=name, peak_learning_rate=2e-2, warmup_steps=5, weight_decay=0.0))
    state, metrics = step(state, batch)
    assert float(metrics.loss) > 3.5
    for _ in range(99):
        state, metrics = step(state, batch)
    assert float(metrics.loss) < 0.05
    assert float(metrics.accuracy) == 1.0


def test_weights_that_sum_to_less_than_one_give_their_mean(batch):
    _, step, _ = ready(TINY, Optimizer())
    whole, light, none = (
        step(ready(TINY, Optimizer())[0], batch._replace(weights=batch.weights * np.float32(factor)))[1]
        for factor in (1, 1 / 128, 0)
    )
    np.testing.assert_allclose(light.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(light.gradient_norm, whole.gradient_norm, rtol=1e-5)
    assert (float(none.loss), int(none.skipped)) == (0.0, 0)


def test_a_step_without_a_finite_loss_changes_nothing_and_is_counted(batch):
    state, step, _ = ready(TINY, Optimizer())
    before = jax.tree.map(np.asarray, (state.params, state.opt_state))
    bad = batch._replace(weights=np.where(np.arange(12) == 3, np.inf, batch.weights).astype(np.float32))
    state, metrics = step(state, bad)
    assert (int(state.step), int(state.skipped), int(metrics.skipped)) == (1, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.opt_state), before)
    state, metrics = step(state, batch)
    assert (int(state.step), int(state.skipped)) == (2, 1) and np.isfinite(metrics.loss)
    assert not np.array_equal(state.params["embedding"], before[0]["embedding"])


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_decay(name):
    abstract = abstract_model(TINY, Sharding(MeshAxes().build(jax.devices()[:1])))
    params = jax.tree.map(jnp.ones_like, initial_params(TINY, abstract, seed=0))
    transformation = Optimizer(name=name, weight_decay=0.5, peak_learning_rate=0.1, warmup_steps=0).build(
        10, abstract.roles
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(zeros, transformation.init(params), params)
    for role, update in zip(_leaves(abstract.roles), jax.tree.leaves(updates), strict=True):
        expected = 0.0 if "norm" in role.axes else -0.05
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def _leaves(roles):
    return jax.tree.leaves(roles, is_leaf=lambda leaf: isinstance(leaf, Role))


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else():
    abstract = abstract_model(TINY, Sharding(MeshAxes().build(jax.devices()[:1])))
    state = Optimizer(name="muon").build(10, abstract.roles).init(initial_params(TINY, abstract, seed=0))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    momenta = [name for name in names if "'muon'" in name]
    inside = [name for name in momenta if "blocks" in name]
    assert inside and not any("norm" in name or "embedding" in name or "head" in name for name in momenta)


def test_axes_name_every_dimension():
    abstract = abstract_model(TINY, Sharding(MeshAxes().build(jax.devices()[:1])))
    roles = roles_of(abstract.params)
    assert roles["blocks"]["attention"]["query"].axes == ("layers", "width", "heads", "head_dim")
    assert roles["embedding"].axes == ("vocab", "width")


def test_the_schedule_warms_up_and_ends_at_its_fraction():
    schedule = Optimizer(peak_learning_rate=1.0, warmup_steps=10, final_fraction=0.1).schedule(100)
    values = np.array([schedule(step) for step in range(101)])
    assert values[0] > 0 and values.argmax() == 10 and values[10] == 1.0
    np.testing.assert_allclose(values[100], 0.1, rtol=1e-6)
    assert np.all(np.diff(values[10:]) <= 0)


def test_moments_are_sharded_as_their_parameters():
    state, _, _ = ready(TINY, Optimizer(name="muon"), devices=4, mesh=MeshAxes(data=1, fsdp=2, tensor=2))
    assert isinstance(state, TrainState)
    places = {
        path[-3:]: leaf.sharding
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if leaf.ndim == 4 and "muon" in jax.tree_util.keystr(path)
    }
    assert places
    for path, sharding in places.items():
        parameter: Any = state.params
        for part in path:
            parameter = parameter[part.key]
        assert sharding == parameter.sharding and not sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peak_learning_rate": 0.0}, r"Optimizer\.peak_learning_rate = 0\.0: must be greater than 0"),
        ({"warmup_steps": -1}, r"Optimizer\.warmup_steps = -1: must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(**settings)
