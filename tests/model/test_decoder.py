"""The decoder against an independent float64 implementation, and what it promises about documents and depth."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED
from random_vectors import with_random_vectors

from mindllm_jax.configuration import command_line, load
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import REMAT, Decoder
from mindllm_jax.training.pretrain import Pretrain

ROOT = Path(__file__).parents[2]
TINY = Model(vocab_size=97, layers=3, width=32, heads=4, kv_heads=2, head_dim=8, mlp_dim=48, max_seq_len=64)
CHOICES = {
    "mindllm": {},
    "learned positions": {"positions": "learned"},
    "layernorm, pre_norm": {"norm": "layernorm", "residual": "pre_norm"},
    "post_norm, gelu": {"residual": "post_norm", "mlp": "gelu"},
    "swiglu, tied, window": {"mlp": "swiglu", "tied": True, "windows": (5,)},
    "GPT-Neo": {
        "positions": "learned",
        "norm": "layernorm",
        "residual": "pre_norm",
        "mlp": "gelu",
        "tied": True,
        "kv_heads": 4,
        "windows": (None, 3, 5),
        "attention_scale": 1.0,
        "biases": ("attention_out", "mlp"),
    },
    "geglu, all biases": {"biases": ("query_key_value", "attention_out", "mlp")},
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def packed_rows(batch: int = 2, length: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment ids and positions of rows with three documents each, padded at the end."""
    rng = np.random.default_rng(SEED)
    tokens = rng.integers(0, TINY.vocab_size, (batch, length), dtype=np.int32)
    segments, positions = np.zeros_like(tokens), np.zeros_like(tokens)
    for row, cuts in enumerate([(0, 7, 9, 20), (0, 1, 15, 24)][:batch]):
        for number, (start, end) in enumerate(itertools.pairwise(cuts), start=1):
            segments[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
    return tokens, segments, positions


def numpy_logits(decoder: Decoder, tokens: np.ndarray, segments: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The decoder of the papers it names, written again in numpy, one row, one head at a time."""
    c = decoder.config
    params: Any = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(decoder, nnx.Param)))
    alpha = {"deepnorm": (2 * c.layers) ** 0.25, "post_norm": 1.0, "pre_norm": 1.0}[c.residual]

    def norm(x, p):
        if c.norm == "layernorm":
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_epsilon) * p["scale"]
        return x + p["bias"] if c.norm == "layernorm" else x

    def turn(x, at):  # as complex numbers, unlike the implementation
        half = c.head_dim // 2
        spin = np.exp(1j * at[:, None] * c.rope_theta ** (-np.arange(half) / half))
        z = (x[:, :half] + 1j * x[:, half:]) * spin
        return np.concatenate([z.real, z.imag], -1)

    def attend(x, p, row, window):
        out = np.zeros_like(x)
        for n in range(c.heads):
            k = n // (c.heads // c.key_heads)
            query, key, value = x @ p["query"][:, n], x @ p["key"][:, k], x @ p["value"][:, k]
            if "query_key_value" in c.biases:
                query, key = query + p["query_bias"][n], key + p["key_bias"][k]
                value = value + p["value_bias"][k]
            if c.positions == "rope":
                query, key = turn(query, positions[row]), turn(key, positions[row])
            for i in range(len(x)):
                seen = [
                    j
                    for j in range(i + 1)
                    if segments[row, i] == segments[row, j] != 0 and (window is None or i - j < window)
                ]
                if seen:
                    scores = key[seen] @ query[i] * (c.attention_scale or c.head_dim**-0.5)
                    weights = np.exp(scores - scores.max())
                    out[i] += (weights / weights.sum()) @ value[seen] @ p["out"][n]
        return out + p["out_bias"] if "attention_out" in c.biases else out

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def mlp(x, p):
        biases = {name: p.get(f"{name}_bias", 0) for name in ("up", "gate", "down")}
        up = x @ p["up"] + biases["up"]
        if c.mlp == "gelu":
            return gelu(up) @ p["down"] + biases["down"]
        gate = x @ p["gate"] + biases["gate"]
        return biases["down"] + ((gelu(gate) if c.mlp == "geglu" else gate / (1 + np.exp(-gate))) * up) @ p["down"]

    logits = []
    for row in range(len(tokens)):
        x = params["embedding"][tokens[row]]
        if c.positions == "learned":
            x = x + params["positions"][positions[row]]
        for layer in range(c.layers):
            p, window = (
                jax.tree.map(lambda a, layer=layer: a[layer], params["blocks"]),
                c.windows[layer % len(c.windows)],
            )
            if c.residual == "pre_norm":
                x = x + attend(norm(x, p["attention_norm"]), p["attention"], row, window)
                x = x + mlp(norm(x, p["mlp_norm"]), p["mlp"])
            else:
                x = norm(alpha * x + attend(x, p["attention"], row, window), p["attention_norm"])
                x = norm(alpha * x + mlp(x, p["mlp"]), p["mlp_norm"])
        if c.residual == "pre_norm":
            x = norm(x, params["final_norm"])
        logits.append(x @ (params["embedding"].T if c.tied else params["head_kernel"]))
    return np.stack(logits)


@pytest.mark.long
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_logits_agree_with_an_independent_implementation_in_float64(choice, x64):
    config = dataclasses.replace(TINY, compute_dtype="float64", **CHOICES[choice])
    decoder = with_random_vectors(Decoder(config, rngs=nnx.Rngs(SEED)))
    tokens, segments, positions = packed_rows()
    hidden = decoder(jnp.asarray(tokens), segment_ids=jnp.asarray(segments), positions=jnp.asarray(positions))
    expected = numpy_logits(decoder, tokens, segments, positions)
    real = segments > 0
    difference = np.abs(np.asarray(decoder.logits(hidden)) - expected)[real].max()
    assert difference < 1e-12 * np.abs(expected[real]).max()


@pytest.mark.long
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_document_s_logits_do_not_depend_on_its_neighbours(choice):
    decoder = Decoder(dataclasses.replace(TINY, **CHOICES[choice]), rngs=nnx.Rngs(SEED))
    tokens, segments, positions = packed_rows()
    ids, places = jnp.asarray(segments), jnp.asarray(positions)
    logits = jax.jit(lambda t: decoder.logits(decoder(t, segment_ids=ids, positions=places)))
    before = np.asarray(logits(tokens))
    for document in (1, 2, 3):
        changed = np.where(segments == document, (tokens + 11) % TINY.vocab_size, tokens)
        after = np.asarray(logits(changed))
        others = (segments != document) & (segments != 0)
        np.testing.assert_array_equal(after[others], before[others])
        assert np.abs(after - before)[segments == document].max() > 1e-3


def test_a_token_does_not_see_what_follows():
    decoder = Decoder(TINY, rngs=nnx.Rngs(SEED))
    tokens = packed_rows()[0]
    changed = np.concatenate([tokens[:, :10], (tokens[:, 10:] + 1) % TINY.vocab_size], axis=1)
    before, after = decoder(jnp.asarray(tokens)), decoder(jnp.asarray(changed))
    np.testing.assert_array_equal(before[:, :10], after[:, :10])
    assert not np.array_equal(before[:, 10:], after[:, 10:])


def test_rope_sees_only_differences_of_positions(x64):
    decoder = Decoder(dataclasses.replace(TINY, compute_dtype="float64"), rngs=nnx.Rngs(SEED))
    tokens, segments, positions = map(jnp.asarray, packed_rows())
    near = decoder(tokens, segment_ids=segments, positions=positions)
    far = decoder(tokens, segment_ids=segments, positions=positions + 1000)
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("remat", REMAT)
def test_remat_changes_no_gradient(remat, x64):
    tokens, segments, positions = map(jnp.asarray, packed_rows())

    def gradient(policy: str) -> nnx.State:
        config = dataclasses.replace(TINY, remat=policy, compute_dtype="float64")
        decoder = Decoder(config, rngs=nnx.Rngs(SEED))
        loss = lambda m: jnp.sum(m(tokens, segment_ids=segments, positions=positions) ** 3)  # noqa: E731
        return nnx.grad(loss)(decoder)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), gradient(remat), gradient("none"))


def first_update(residual: Any, layers: int, rate: float) -> float:
    """Root mean square change of the logits by one step of gradient descent on the blocks."""
    config = Model(
        vocab_size=64, layers=layers, width=32, heads=2, head_dim=16, mlp_dim=64, max_seq_len=32, residual=residual
    )
    decoder = Decoder(config, rngs=nnx.Rngs(0))
    definition, params, rest = nnx.split(decoder, nnx.Param, ...)
    tokens = jax.random.randint(jax.random.key(1), (4, 32), 0, 64)

    def logits(params: nnx.State) -> jax.Array:
        model = nnx.merge(definition, params, rest)
        return model.logits(model(tokens[:, :-1])) * 4

    def loss(params: nnx.State) -> jax.Array:
        log_probs = jax.nn.log_softmax(logits(params))
        return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

    grads = jax.grad(loss)(params)
    moved = nnx.State({**params, "blocks": jax.tree.map(lambda p, g: p - rate * g, params["blocks"], grads["blocks"])})
    return float(jnp.sqrt(jnp.mean((logits(moved) - logits(params)) ** 2)))


@pytest.mark.long
def test_deepnorm_bounds_the_first_update_whatever_the_depth():
    rate = 1e-2
    shallow, deep = first_update("deepnorm", 2, rate), first_update("deepnorm", 64, rate)
    plain = first_update("post_norm", 64, rate)
    print(f"change per unit of learning rate: 2 layers {shallow / rate:.2f}, 64 layers {deep / rate:.2f}")
    print(f"without DeepNorm, 64 layers {plain / rate:.2f}")
    assert max(shallow, deep) < 2 * rate, (
        "DeepNet, theorem: the change is of the order of the learning rate at any depth"
    )
    assert plain > 20 * deep


def independent_count(c: Model) -> int:
    """Parameters by a formula of its own: blocks, tables, head, norms."""
    block = c.width * c.head_dim * (c.heads * 2 + (c.kv_heads or c.heads) * 2)
    block += c.width * c.mlp_dim * {"geglu": 3, "swiglu": 3, "gelu": 2}[c.mlp]
    kinds = {"query_key_value": (c.heads + 2 * (c.kv_heads or c.heads)) * c.head_dim, "attention_out": c.width}
    kinds |= {"mlp": c.width + c.mlp_dim * (1 if c.mlp == "gelu" else 2)}
    block += sum(kinds[kind] for kind in c.biases)
    norm = c.width * {"rmsnorm": 1, "layernorm": 2}[c.norm]
    total = c.layers * (block + 2 * norm) + c.vocab_size * c.width * (1 if c.tied else 2)
    total += norm if c.residual == "pre_norm" else 0
    return total + (c.max_seq_len * c.width if c.positions == "learned" else 0)


def count(config: Model) -> int:
    abstract = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param)))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_parameter_count(choice):
    config = dataclasses.replace(TINY, **CHOICES[choice])
    assert count(config) == independent_count(config)


PRESETS = {
    "mindllm_3b": 3_182_592_000,  # 3.18B; 3.16B with F at exactly 8/3 of the width
    "mindllm_1b3": 1_349_091_328,
    "mindllm_1b3_gptneo": 1_366_265_856,
    "smollm2_135m": 134_515_008,  # as published
    "ladder_1m": 1_179_904,
    "ladder_3m": 2_736_896,
    "ladder_9m": 9_309_184,
    "ladder_22m": 22_223_616,
    "ladder_47m": 46_936_064,
    "ladder_140m": 140_012_544,
    "ladder_325m": 325_107_712,
    "ladder_450m": 448_918_272,
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "model").glob("*.gin")), ids=lambda path: path.stem)
def test_parameter_count_of_the_presets(path):
    config = load(Pretrain, command_line("", ["--gin", str(path), "--gin.Mixture.store=none"])).model
    assert count(config) == independent_count(config) == PRESETS[path.stem]


def test_rows_longer_than_the_positions_are_refused():
    decoder = Decoder(TINY, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"rows of 65 tokens are longer than Model\.max_seq_len = 64"):
        decoder(jnp.zeros((1, 65), jnp.int32))
    with pytest.raises(ValueError, match=r"rows of 65 tokens"):
        decoder.new_cache(1, 65)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, r"Model\.layers = 0: must be at least 1"),
        ({"heads": 4, "kv_heads": 3}, r"Model\.heads = 4 is not a multiple of Model\.kv_heads = 3"),
        ({"head_dim": 7}, r"Model\.head_dim = 7: RoPE rotates pairs"),
        ({"windows": (None, 0)}, r"Model\.windows = \(None, 0\): a window must be at least 1"),
        ({"windows": (None, 4), "layers": 3}, r"Model\.layers = 3 must be a multiple of its length"),
        ({"windows": ()}, r"Model\.windows = \(\) is repeated over the layers"),
        ({"attention_scale": 0.0}, r"Model\.attention_scale = 0.0: must be greater than 0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Model(**settings)
