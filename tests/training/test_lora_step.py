"""A step of LoRA against full tuning, and NEFTune's noise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.rows import Batch
from mindllm_jax.training.adapters import merge_adapters
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.state import Params, abstract_model, initial_params, initial_state
from mindllm_jax.training.step import loss_sums, make_step

# Every matrix of a block has 16 inputs, so that rank 16 is full.
MODEL = Model(
    vocab_size=32, layers=2, width=16, heads=2, head_dim=8, mlp_dim=16, max_seq_len=8, residual="pre_norm",
    compute_dtype="float32",
)  # fmt: skip
MATRICES = ("query", "key", "value", "out", "gate", "up", "down")
STEPS = 12


@pytest.fixture(scope="module")
def sharding() -> Sharding:
    return Sharding(MeshAxes().build(jax.devices()[:1]))


@pytest.fixture(scope="module")
def base(sharding: Sharding) -> Params:
    return initial_params(MODEL, abstract_model(MODEL, sharding), seed=0)


def batch_of(seed: int, rows: int = 4) -> Batch:
    ids = np.random.default_rng(seed).integers(1, MODEL.vocab_size, (rows, 9)).astype(np.int32)
    ones = np.ones((rows, 8), np.int32)
    positions = np.broadcast_to(np.arange(8, dtype=np.int32), ones.shape)
    return Batch(*map(jnp.asarray, (ids[:, :-1], ids[:, 1:], ones.astype(np.float32), ones, positions)))


def copied(params: Params) -> Params:
    """A step donates its state."""
    return jax.tree.map(jnp.copy, params)


def fully_tuned(base: Params, sharding: Sharding) -> Params:
    """The base after SGD on the blocks' matrices alone."""
    abstract = abstract_model(MODEL, sharding)

    def group(path: tuple[Any, ...], _: Any) -> str:
        return "on" if path[-1].key in MATRICES else "off"

    groups = jax.tree_util.tree_map_with_path(group, base)
    optimizer = optax.partition({"on": optax.sgd(0.05), "off": optax.set_to_zero()}, groups)
    state = initial_state(copied(base), abstract, optimizer)
    step = make_step(abstract, optimizer)
    for number in range(STEPS):
        state, _ = step(state, batch_of(number))
    return state.params


def orthogonal(adapters: Params) -> Params:
    """Replaces each A by a matrix with orthonormal rows, so that A A^T is the identity where the rank is full."""
    draw = np.random.default_rng(0)

    def replaced(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != "a":
            return leaf
        layers, rank = leaf.shape[0], leaf.shape[-1]
        square = np.linalg.qr(draw.normal(size=(layers, 16, 16)))[0][..., :rank]
        return jnp.asarray(square.reshape(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(replaced, adapters)


def lora_tuned(base: Params, sharding: Sharding, rank: int) -> Params:
    """The base with adapters after the same SGD on them alone, merged."""
    lora = Lora(rank=rank, alpha=float(rank))
    abstract, optimizer = abstract_model(MODEL, sharding, lora), optax.sgd(0.05)
    adapters = orthogonal(initial_params(MODEL, abstract, seed=1))
    state = initial_state(adapters, abstract, optimizer, copied(base))
    step = make_step(abstract, optimizer)
    for number in range(STEPS):
        state, _ = step(state, batch_of(number))
    return merge_adapters(base, state.params, lora)


def changes(params: Params, base: Params) -> np.ndarray:
    leaves = jax.tree.leaves(jax.tree.map(jnp.subtract, params, base))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


@pytest.mark.long
def test_full_rank_follows_full_tuning(base: Params, sharding: Sharding) -> None:
    full = changes(fully_tuned(base, sharding), base)
    size = np.linalg.norm(full)
    apart = {rank: np.linalg.norm(changes(lora_tuned(base, sharding, rank), base) - full) / size for rank in (16, 4)}
    # The first step is the same; later ones differ by the change of A, which is of the order of the change of W.
    assert apart[16] < 0.05 and apart[4] > 0.5, apart


def noisy_loss(
    alpha: float, base: Params, sharding: Sharding, seed: int = 0, steps: int = 1, accumulate: int = 1
) -> float:
    abstract, optimizer = abstract_model(MODEL, sharding), Optimizer(peak_learning_rate=1e-30, weight_decay=0.0)
    transformation = optimizer.build(10, abstract.roles)
    state = initial_state(copied(base), abstract, transformation)
    step = make_step(
        abstract, transformation, embedding_noise=alpha, noise_seed=seed, grad_accum_steps=accumulate
    )  # fmt: skip
    metrics = None
    for _ in range(steps):
        state, metrics = step(state, batch_of(0))
    assert metrics is not None
    return float(metrics.loss)


@pytest.mark.slow
def test_noise_is_uniform_within_its_bound_and_drawn_by_seed_and_step(base: Params, sharding: Sharding) -> None:
    alpha = 5.0
    decoder = abstract_model(MODEL, sharding).decoder(base)
    losses = []
    for step in range(2):
        key = jax.random.fold_in(jax.random.key(7), step)
        bound = alpha / np.sqrt(8 * MODEL.width)
        noise = jax.random.uniform(key, (4, 8, MODEL.width), jnp.float32, -bound, bound)
        sums = loss_sums(decoder, batch_of(0), noise=noise)
        losses.append(float(sums.loss / sums.weight))
    assert noisy_loss(alpha, base, sharding, seed=7) == pytest.approx(losses[0], rel=1e-5)
    assert noisy_loss(alpha, base, sharding, seed=7, steps=2) == pytest.approx(losses[1], rel=1e-5)
    quiet = noisy_loss(0.0, base, sharding)
    assert abs(losses[0] - losses[1]) > 1e-4 < abs(losses[0] - quiet)
    assert abs(noisy_loss(alpha, base, sharding, seed=8) - losses[0]) > 1e-4


@pytest.mark.slow
def test_micro_batches_have_noise_of_their_own(base: Params, sharding: Sharding) -> None:
    whole, parts = (noisy_loss(0.0, base, sharding, accumulate=count) for count in (1, 2))
    assert parts == pytest.approx(whole, rel=1e-5)
    assert abs(noisy_loss(5.0, base, sharding, accumulate=2) - whole) > 1e-4


def test_noise_is_added_to_the_embeddings(base: Params, sharding: Sharding) -> None:
    tokens = jnp.arange(8)[None]
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, MODEL.width)), jnp.float32)
    abstract = abstract_model(MODEL, sharding)
    shifted = dict(base) | {"embedding": base["embedding"].at[:8].add(noise[0])}
    run = nnx.jit(lambda decoder, tokens, noise: decoder(tokens, noise=noise))
    np.testing.assert_allclose(
        run(abstract.decoder(base), tokens, noise), run(abstract.decoder(shifted), tokens, None), rtol=1e-5, atol=1e-5
    )
