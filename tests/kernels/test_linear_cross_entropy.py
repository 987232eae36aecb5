"""The loss head: its numbers, its gradients, and what it must not hold."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from numerics import SEED, assert_as_exact, assert_same, relative_error

from mindllm_jax.kernels.linear_cross_entropy import LossSums, linear_cross_entropy

NAMES = ("loss", "correct", "d_hidden", "d_head", "d_weights")
BATCH, LENGTH, WIDTH, COLUMNS = 4, 46, 32, 80
CASES = {
    "plain": {},
    "z-loss, cap, padding": {"z_loss": 1e-2, "logit_cap": 3.0, "vocab_size": 70},
}
SHARDED_OPTIONS = {**CASES["z-loss, cap, padding"], "chunk": 20}
Arrays = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.cache
def problem(dtype: str) -> Arrays:
    """Hidden, head in float32, targets below 70, a third of them the best, and weights of which a third are zero."""
    print(f"MINDLLM_TEST_SEED={SEED}")
    rng = np.random.default_rng(SEED)
    hidden = jnp.asarray(rng.standard_normal((BATCH, LENGTH, WIDTH)), dtype)
    head = jnp.asarray(rng.standard_normal((WIDTH, COLUMNS)) * 0.3, jnp.float32)
    best = (hidden.astype(jnp.float32) @ head[:, :70]).argmax(-1)
    drawn = rng.integers(0, 70, (BATCH, LENGTH))
    targets = jnp.where(rng.random((BATCH, LENGTH)) < 0.33, best, drawn).astype(jnp.int32)
    weights = jnp.asarray(rng.random((BATCH, LENGTH)) * (rng.random((BATCH, LENGTH)) < 0.67), jnp.float32)
    return hidden, head, targets, weights


def dense(
    arrays: Arrays, z_loss: float = 0.0, logit_cap: float | None = None, vocab_size: int | None = None
) -> tuple[np.ndarray, ...]:
    """Sums of losses and of correct targets, and the gradients to hidden, head and weights, in float64."""
    head = arrays[1].astype(arrays[0].dtype)  # what the products see
    hidden, head, weights = (np.asarray(x, np.float64) for x in (arrays[0], head, arrays[3]))
    targets = np.asarray(arrays[2])
    logits = hidden @ head[:, :vocab_size]
    slope = 1.0
    if logit_cap is not None:
        logits = logit_cap * np.tanh(logits / logit_cap)
        slope = 1 - (logits / logit_cap) ** 2
    exponentials = np.exp(logits)
    total = exponentials.sum(-1, keepdims=True)
    lse = np.log(total)
    is_target = np.arange(logits.shape[-1]) == targets[..., None]
    losses = (lse - (logits * is_target).sum(-1, keepdims=True) + z_loss * lse**2)[..., 0]
    d_logits = (exponentials / total * (1 + 2 * z_loss * lse) - is_target) * slope * weights[..., None]
    d_head = np.zeros_like(head)
    d_head[:, :vocab_size] = np.einsum("btd,btv->dv", hidden, d_logits)
    correct = (weights * (logits.argmax(-1) == targets)).sum()
    return (losses * weights).sum(), correct, d_logits @ head[:, :vocab_size].T, d_head, losses


def plain(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    z_loss: float = 0.0,
    logit_cap: float | None = None,
    vocab_size: int | None = None,
) -> LossSums:
    """The formula, with all logits at once."""
    logits = jnp.einsum("btd,dv->btv", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)
    logits = logits[..., :vocab_size]
    if logit_cap is not None:
        logits = logit_cap * jnp.tanh(logits / logit_cap)
    lse = jax.nn.logsumexp(logits, axis=-1)
    losses = lse - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0] + z_loss * lse**2
    return LossSums((losses * weights).sum(), weights.sum(), ((logits.argmax(-1) == targets) * weights).sum())


def results(
    function: Callable[..., LossSums], arrays: Arrays, *, excess: bool = True, **options: Any
) -> tuple[np.ndarray, ...]:
    """Sums of losses and of correct targets, and the gradients to hidden, head and weights.

    excess: whether the compiler may keep more digits than a dtype has, as it does by default. On a GPU it makes float32
    of the plain formula's products.
    """
    hidden, head, targets, weights = arrays

    @functools.partial(jax.jit, compiler_options={"xla_allow_excess_precision": excess})
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def loss(hidden: jax.Array, head: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        sums = function(hidden, head, targets, weights, **options)
        return sums.loss, sums.correct

    (total, correct), gradients = loss(hidden, head, weights)
    assert [x.dtype for x in gradients] == [hidden.dtype, head.dtype, weights.dtype]
    return tuple(np.asarray(x, np.float64) for x in (total, correct, *gradients))


def errors(found: tuple[np.ndarray, ...], truth: tuple[np.ndarray, ...]) -> dict[str, float]:
    return {name: relative_error(x, y) for name, x, y in zip(NAMES, found, truth, strict=True)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_errors_are_those_of_the_plain_formula(case: str, dtype: str) -> None:
    arrays, options = problem(dtype), CASES[case]
    truth = dense(arrays, **options)
    reference = errors(results(plain, arrays, excess=False, **options), truth)
    assert max(reference.values()) < {"float32": 1e-6, "bfloat16": 1e-2}[dtype], reference
    found = errors(results(linear_cross_entropy, arrays, chunk=37, **options), truth)  # a tail of 36 tokens
    assert_as_exact(found, reference, dtype)


def test_evaluation_equals_training() -> None:
    hidden, head, targets, weights = problem("float32")
    sums = jax.jit(linear_cross_entropy)(hidden, head, targets, weights)
    in_training = jax.vjp(lambda hidden: linear_cross_entropy(hidden, head, targets, weights), hidden)[0]
    for name, found, expected in zip(sums._fields, sums, in_training, strict=True):
        assert_same(found, expected, "float32", name)
    assert_same(sums.weight, np.asarray(weights, np.float64).sum(), "float32")


def test_gradient_of_a_mean() -> None:
    """The factor that comes after the sum, and the one of `weight`, find their way back."""
    hidden, head, targets, weights = problem("float32")

    def mean(function: Callable[..., LossSums], hidden: jax.Array, weights: jax.Array) -> jax.Array:
        sums = function(hidden, head, targets, weights)
        return jnp.log(sums.loss / sums.weight)

    found, expected = (
        jax.jit(jax.grad(functools.partial(mean, function), argnums=(0, 1)))(hidden, weights)
        for function in (linear_cross_entropy, plain)
    )
    for got, wanted in zip(found, expected, strict=True):
        assert_same(got, wanted, "float32")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("partition", [None, (P("data"), P(None, "tensor"))], ids=["whole", "sharded"])
def test_a_token_of_weight_0_counts_for_nothing_whatever_it_is(value: float, partition: Any) -> None:
    """Sums and gradients are those without it, to the bit, where its own loss is not finite."""
    hidden, head, targets, weights = problem("float32")
    spoiled = jnp.where((weights == 0)[..., None], value, hidden)
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def of(hidden: jax.Array) -> list[np.ndarray]:
        arrays = hidden, head, targets, weights
        options = {**SHARDED_OPTIONS, "logit_cap": None, "partition": partition}
        with jax.set_mesh(mesh):
            forward = jax.jit(functools.partial(linear_cross_entropy, **options))(*arrays)
            return [*map(np.asarray, forward), *results(linear_cross_entropy, arrays, **options)]

    *found, d_weights = of(spoiled)
    *expected, d_weights_without = of(hidden)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    counted = np.asarray(weights != 0)
    np.testing.assert_array_equal(d_weights[counted], d_weights_without[counted])
    assert np.isfinite(d_weights).all() and not counted.all()


def test_padded_columns_count_for_nothing() -> None:
    """Whatever is in them: not in the loss, not as the best token, and with gradient zero."""
    hidden, head, targets, weights = problem("float32")
    huge = head.at[:, 70:].set(1e4)

    def loss(head: jax.Array) -> tuple[jax.Array, LossSums]:
        sums = linear_cross_entropy(hidden, head, targets, weights, vocab_size=70, logit_cap=20.0)
        return sums.loss, sums

    (_, sums), gradient = jax.value_and_grad(loss, has_aux=True)(huge)
    (_, expected), without = jax.value_and_grad(loss, has_aux=True)(head)
    assert jax.tree.map(float, sums) == jax.tree.map(float, expected)
    assert (gradient[:, 70:] == 0).all() and (gradient == without).all()


def test_a_tie_is_not_correct() -> None:
    hidden, head, targets, weights = problem("float32")
    assert linear_cross_entropy(hidden, jnp.zeros_like(head), targets, weights).correct == 0


def test_head_in_float32_gets_its_gradient_unrounded() -> None:
    hidden, head, targets, weights = problem("bfloat16")
    gradient = jax.grad(lambda head: linear_cross_entropy(hidden, head, targets, weights).loss)(head)
    assert gradient.dtype == jnp.float32
    assert (gradient != gradient.astype(jnp.bfloat16).astype(jnp.float32)).mean() > 0.9


def test_three_products() -> None:
    arrays = problem("float32")

    def loss(hidden: jax.Array, head: jax.Array) -> jax.Array:
        return linear_cross_entropy(hidden, head, *arrays[2:]).loss

    assert str(jax.make_jaxpr(loss)(*arrays[:2])).count("dot_general") == 1
    assert str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arrays[:2])).count("dot_general") == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_array_of_logits(dtype: str) -> None:
    """Nothing that the compiled gradient holds is larger than the head."""
    batch, length, width, columns = 8, 256, 64, 4096
    hidden, head = jax.ShapeDtypeStruct((batch, length, width), dtype), jax.ShapeDtypeStruct((width, columns), dtype)
    targets, weights = (jax.ShapeDtypeStruct((batch, length), x) for x in (jnp.int32, jnp.float32))

    def loss(hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        return linear_cross_entropy(hidden, head, targets, weights, chunk=width).loss

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, head, targets, weights).compile()
    shapes = re.findall(r"\w\d+\[([\d,]+)\]", compiled.as_text() or "")
    assert max(math.prod(map(int, shape.split(","))) for shape in shapes) == width * columns
    memory = compiled.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < batch * length * columns * 4 / 4


@functools.cache
def unsharded() -> tuple[np.ndarray, ...]:
    return results(linear_cross_entropy, problem("float32"), **SHARDED_OPTIONS)


@pytest.mark.parametrize(
    "partition",
    [
        P(("data", "fsdp"), None, None),
        P("data", "fsdp"),
        (P(("data", "fsdp")), P("fsdp", "tensor")),
        (P("data"), P(None, ("fsdp", "tensor"))),
    ],
    ids=str,
)
def test_sharded_equals_whole(partition: Any) -> None:
    arrays = problem("float32")
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        sharded = results(linear_cross_entropy, arrays, partition=partition, **SHARDED_OPTIONS)
    for got, expected in zip(sharded, unsharded(), strict=True):
        assert_same(got, expected, "float32")


def test_head_gradient_is_summed_over_devices_once() -> None:
    """After the loop over chunks, not in it."""
    hidden, head, targets, weights = problem("float32")
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])

    def loss(head: jax.Array) -> jax.Array:
        return linear_cross_entropy(hidden, head, targets, weights, chunk=20, partition=P("data")).loss

    with jax.set_mesh(mesh):
        text = jax.jit(jax.grad(loss)).lower(head).compile().as_text() or ""
    loops, entry = text.split("ENTRY ")
    assert "while(" in entry and f"f32[{WIDTH},{COLUMNS}]" in entry
    assert entry.count(" all-reduce(") == 1 and " all-reduce(" not in loops


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": jnp.zeros((2, 16))}, r"hidden has shape \(2, 16\); it must be \[batch, length, width\]"),
        ({"head": jnp.zeros((15, 40))}, r"head has shape \(15, 40\); for hidden of shape \(2, 8, 16\)"),
        ({"targets": jnp.zeros((2, 7), int)}, r"targets have shape \(2, 7\); for hidden of shape \(2, 8, 16\)"),
        ({"weights": jnp.zeros((2, 7))}, r"weights have shape \(2, 7\)"),
        ({"targets": jnp.zeros((2, 8))}, r"targets are float32; they must be integers"),
        ({"weights": jnp.zeros((2, 8), int)}, r"weights are int32; they must be floats"),
        ({"head": jnp.zeros((16, 40), jnp.bfloat16)}, r"head is bfloat16; it must be float32 or, like hidden, float32"),
        ({"vocab_size": 41}, r"vocab_size = 41; it must be 1 to the 40 columns of head"),
        ({"chunk": 0}, r"chunk = 0; it must be at least 1 token"),
        ({"logit_cap": -1.0}, r"logit_cap = -1.0; it must be positive"),
        ({"implementation": "quick"}, r"implementation='quick' is unknown; known are xla"),
        ({"partition": P("data")}, r"no mesh is set"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "hidden": jnp.zeros((2, 8, 16)),
        "head": jnp.zeros((16, 40)),
        "targets": jnp.zeros((2, 8), int),
        "weights": jnp.zeros((2, 8)),
    }
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (P(None, None, "data"), r"splits the width of hidden"),
        (P("data"), r"batch of hidden = 2 is not a multiple of the 4 shards"),
        ((P(None, "data"), P("tensor", None)), r"partition of head splits its width over \['tensor'\]"),
        ((P(None, "data"), P(None, "data")), r"partition of head splits its columns over \['data'\]"),
        ((P(None, "data"), P(None, "tensor")), r"columns of head = 41 is not a multiple of the 2 shards"),
    ],
)
def test_partitions_that_cannot_be(partition: Any, message: str) -> None:
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    zeros = jnp.zeros((2, 8))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=message):
        linear_cross_entropy(jnp.zeros((2, 8, 16)), jnp.zeros((16, 41)), zeros.astype(int), zeros, partition=partition)
