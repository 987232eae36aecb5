"""Other people's attention behind our entry: the same problem is put to it, and what it cannot do is refused."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import splash_attention
from numerics import SEED, assert_as_exact, relative_error

from mindllm_jax.kernels.flash_attention import IMPLEMENTATIONS, flash_attention

PEERS = ("cudnn", "tokamax", "splash")


def allow_anywhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    entry = IMPLEMENTATIONS[name]
    anywhere = dataclasses.replace(entry.capabilities, platforms=None, requires=None)
    monkeypatch.setitem(IMPLEMENTATIONS, name, dataclasses.replace(entry, capabilities=anywhere))


def results(implementation: str, dtype: Any, heads: int, head_dim: int, length: int, options: dict[str, Any]) -> Any:
    """Output and gradients of q, k and v, from the same values for each dtype and implementation."""
    rng = np.random.default_rng(SEED)
    shapes = [(2, length, n, head_dim) for n in (heads, 2, 2, heads)]
    arrays = [jnp.asarray(jnp.asarray(rng.standard_normal(shape), jnp.bfloat16), dtype) for shape in shapes]

    @jax.jit
    def run(q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array) -> Any:
        attend = functools.partial(flash_attention, implementation=implementation, **options)
        out, vjp = jax.vjp(attend, q, k, v)
        return out, *vjp(d_out)

    return [np.asarray(x, np.float64) for x in run(*arrays)]


def assert_errors_of_the_reference(implementation: str, *problem: Any) -> None:
    """At most twice those of the plain formula in the same dtype, against the plain formula in float64."""
    with jax.enable_x64(True):
        truth = results("reference", jnp.float64, *problem)
    names = ("out", "dq", "dk", "dv")
    plain, found = (
        {
            name: relative_error(x, y)
            for name, x, y in zip(names, results(taken, jnp.bfloat16, *problem), truth, strict=True)
        }
        for taken in ("reference", implementation)
    )
    assert max(plain.values()) < 0.01, plain
    assert_as_exact(found, plain, "bfloat16")


def packed(length: int) -> jax.Array:
    """Two documents and some padding, differently in each row."""
    return jnp.array([[1] * 70 + [2] * (length - 100) + [0] * 30, [1] * (length - 80) + [2] * 80], jnp.int32)


# Head dimension and length are padded, or not.
SPLASH = {
    "causal, grouped": (4, 128, 256, {}),
    "packed, cap": (2, 64, 200, {"segment_ids": packed(200), "logit_cap": 2.0}),
    "window": (2, 80, 200, {"window": 50, "scale": 0.25}),
    "full": (2, 64, 130, {"causal": False}),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "case", ["packed, cap", *(pytest.param(x, marks=pytest.mark.slow) for x in SPLASH if x != "packed, cap")]
)
def test_splash_has_the_same_errors(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Pallas' plain interpreter: that of the TPU does not take a kernel under `jax.vmap`."""
    allow_anywhere(monkeypatch, "splash")
    make = functools.partial(splash_attention.make_splash_mha_single_device, interpret=True)
    monkeypatch.setattr(splash_attention, "make_splash_mha_single_device", make)
    assert_errors_of_the_reference("splash", *SPLASH[case])


OPTIONS: list[dict[str, Any]] = [{"causal": False, "scale": 0.3}, {"window": 50}]


@pytest.mark.parametrize("options", OPTIONS)
def test_cudnn_is_asked_the_same(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that would call cuDNN, told to take XLA."""
    allow_anywhere(monkeypatch, "cudnn")
    ask = jax.nn.dot_product_attention
    asked = []

    def in_xla(*arrays: jax.Array, implementation: str, **arguments: Any) -> jax.Array:
        asked.append(implementation)
        return ask(*arrays, implementation="xla", **arguments)

    monkeypatch.setattr(jax.nn, "dot_product_attention", in_xla)
    assert_errors_of_the_reference("cudnn", 4, 64, 130, options)
    assert set(asked) == {"cudnn"}


@pytest.mark.skipif(os.environ["JAX_PLATFORMS"] == "cpu", reason="needs an NVIDIA GPU (`make gpu`)")
@pytest.mark.parametrize("options", [{}, *OPTIONS])
@pytest.mark.parametrize("name", ["cudnn", "tokamax"])
def test_peers_on_a_gpu(name: str, options: dict[str, Any]) -> None:
    if name == "tokamax":
        pytest.importorskip("tokamax", reason="tokamax is not installed")
    assert_errors_of_the_reference(name, 4, 64, 256, options)


@pytest.mark.parametrize("options", [*OPTIONS, {"logit_cap": 2.0}])
def test_tokamax_is_asked_the_same(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokamax: ModuleType = pytest.importorskip("tokamax", reason="tokamax is not installed")
    allow_anywhere(monkeypatch, "tokamax")
    ask = tokamax.dot_product_attention
    asked = []

    def in_xla(*arrays: jax.Array, implementation: Any, **arguments: Any) -> jax.Array:
        asked.append(implementation)
        return ask(*arrays, implementation="xla", **arguments)

    monkeypatch.setattr(tokamax, "dot_product_attention", in_xla)
    assert_errors_of_the_reference("tokamax", 4, 64, 130, options)
    assert set(asked) == {("mosaic", "triton")}


Q = jnp.ones((1, 8, 2, 16), jnp.bfloat16)
IDS = jnp.ones((1, 8), jnp.int32)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cudnn", {"segment_ids": IDS}, r"'cudnn' does not support segment_ids\."),
        ("cudnn", {"logit_cap": 2.0}, r"'cudnn' does not support logit_cap\."),
        ("cudnn", {"q": Q.astype(jnp.float32)}, r"must have one dtype"),
        ("tokamax", {"segment_ids": IDS}, r"'tokamax' does not support segment_ids\."),
        ("splash", {"segment_ids": (IDS, IDS)}, r"'splash' does not support keys apart from queries\."),
        *((name, {"return_lse": True}, r"does not support return_lse\..* reference, tpu, xla can") for name in PEERS),
        *((name, {"q_offset": 1}, r"does not support q_offset\.") for name in PEERS),
        *((name, {"q": Q[:, :4]}, r"does not support keys apart from queries\.") for name in PEERS),
    ],
)
def test_refusals(name: str, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed in (*PEERS, "tpu"):
        allow_anywhere(monkeypatch, allowed)
    with pytest.raises(ValueError, match=message):
        flash_attention(**{"q": Q, "k": Q, "v": Q, "implementation": name} | changes)


def test_a_peer_is_taken_only_when_asked_for() -> None:
    names = list(IMPLEMENTATIONS)
    assert max(map(names.index, ("tpu", "xla", "triton", "reference"))) < min(map(names.index, PEERS))


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = IMPLEMENTATIONS["tokamax"]
    anywhere = dataclasses.replace(entry.capabilities, platforms=None)
    monkeypatch.setitem(IMPLEMENTATIONS, "tokamax", dataclasses.replace(entry, capabilities=anywhere))
    monkeypatch.setitem(sys.modules, "tokamax", None)
    with pytest.raises(ValueError, match=r"'tokamax' needs tokamax: pip install 'mindllm-jax\[peers\]'"):
        flash_attention(Q, Q, Q, implementation="tokamax")
