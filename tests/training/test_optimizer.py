"""The optimizers against their formulas, written again in numpy in float64, one parameter at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest
from numerics import SEED, assert_same

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.state import abstract_model, initial_params

MODEL = Model(vocab_size=20, layers=2, width=8, heads=2, kv_heads=1, head_dim=6, mlp_dim=12, compute_dtype="float64")
OPTIMIZER = Optimizer(
    peak_learning_rate=0.05,
    warmup_steps=2,
    beta1=0.8,
    beta2=0.97,
    momentum=0.9,
    epsilon=1e-6,
    weight_decay=0.2,
    clip_norm=3.0,
)
STEPS = 5
ROWS = {"query": 1, "key": 1, "value": 1, "out": 2, "up": 1, "gate": 1, "down": 1}
"""How many axes of a block's matrix are contracted, behind that of the layers."""


def adam(gradients: list[np.ndarray]) -> np.ndarray:
    """The direction after the last of the gradients (Kingma and Ba 2015, algorithm 1)."""
    first, second = (
        sum((1 - beta) * beta ** (len(gradients) - 1 - t) * g**power for t, g in enumerate(gradients))
        for beta, power in ((OPTIMIZER.beta1, 1), (OPTIMIZER.beta2, 2))
    )
    first, second = first / (1 - OPTIMIZER.beta1 ** len(gradients)), second / (1 - OPTIMIZER.beta2 ** len(gradients))
    return first / (np.sqrt(second) + OPTIMIZER.epsilon)


def muon(gradients: list[np.ndarray]) -> np.ndarray:
    """The direction of one matrix after the last of the gradients (Jordan 2024, with Nesterov's momentum)."""
    beta, t = OPTIMIZER.momentum, len(gradients)
    average = sum((1 - beta) * beta ** (t - 1 - s) * g for s, g in enumerate(gradients))
    ahead = beta * average / (1 - beta ** (t + 1)) + (1 - beta) * gradients[-1] / (1 - beta**t)
    x = ahead / (np.linalg.norm(ahead) + OPTIMIZER.epsilon)
    for _ in range(5):
        left, singular, right = np.linalg.svd(x, full_matrices=False)  # a step turns no singular vector
        x = left @ np.diag(3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5) @ right
    return 0.2 * np.sqrt(max(x.shape)) * x


def direction(name: str, path: str, gradients: list[np.ndarray]) -> np.ndarray:
    kind = path.split("/")[-1]
    if name == "adamw" or kind not in ROWS:
        return adam(gradients)
    shape = gradients[0].shape
    rows = int(np.prod(shape[1 : 1 + ROWS[kind]]))
    layers = [[g[layer].reshape(rows, -1) for g in gradients] for layer in range(shape[0])]
    return np.stack([muon(layer).reshape(shape[1:]) for layer in layers])


def learning_rate(step: int, steps: int) -> float:
    """Linear from a third of the peak, then a cosine to a tenth of it."""
    peak = OPTIMIZER.peak_learning_rate
    if step < 2:
        return peak * (1 + step) / 3
    return peak * (0.1 + 0.9 * (1 + np.cos(np.pi * (step - 2) / (steps - 2))) / 2)


def by_path(tree: Any) -> dict[str, np.ndarray]:
    return {
        "/".join(part.key for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_moves_as_the_formulas_say(name: Any) -> None:
    rng = np.random.default_rng(SEED)
    with jax.enable_x64(True):
        abstract = abstract_model(MODEL, Sharding(MeshAxes().build(jax.devices()[:1])))
        params = initial_params(MODEL, abstract, seed=SEED)
        transformation = dataclasses.replace(OPTIMIZER, name=name).build(STEPS + 1, abstract.roles)
        state, update = transformation.init(params), jax.jit(transformation.update)
        expected, seen = by_path(params), {path: [] for path in by_path(params)}
        for step in range(STEPS):
            size = 0.02 * 3**step
            gradients = jax.tree.map(lambda p, size=size: size * rng.standard_normal(p.shape), params)
            updates, state = update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            norm = np.sqrt(sum((g**2).sum() for g in by_path(gradients).values()))
            assert (norm > OPTIMIZER.clip_norm) == (step > 1), "clipped and not"
            for path, gradient in by_path(gradients).items():
                seen[path].append(gradient * min(1, OPTIMIZER.clip_norm / norm))
                decay = 0.0 if "norm" in path else OPTIMIZER.weight_decay
                change = direction(name, path, seen[path]) + decay * expected[path]
                expected[path] = expected[path] - learning_rate(step, STEPS + 1) * change
        found = by_path(params)
        assert found.keys() == expected.keys() and {path.split("/")[-1] for path in found} > set(ROWS)
        for path, value in expected.items():
            assert_same(found[path], value, "float32", path)  # optax's schedules are float32


@pytest.mark.parametrize("name", ["beta1", "beta2", "momentum"])
def test_a_decay_of_one_is_refused(name: str) -> None:
    settings: Any = {name: 1.0}
    with pytest.raises(ValueError, match=rf"Optimizer\.{name} = 1\.0: must be at least 0 and less than 1"):
        Optimizer(**settings)
