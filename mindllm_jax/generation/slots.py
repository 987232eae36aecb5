"""The device side of generation: a cache with a row per request, and the programs that work on it.

A batch begins with all its prompts (`begin`), continuous batching with empty rows (`empty_slots`, `prefill`); both
decode with `decode`. Every program has fixed shapes, so that all can be compiled before the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.generation.continuation import NOT_FINITE
from mindllm_jax.generation.requests import MOST_LOGPROBS
from mindllm_jax.generation.sampling import Choices, sample
from mindllm_jax.kernels.target import target
from mindllm_jax.model.cache import Cache, LayerCache
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.shapes import FloatBV, IntB, IntBT

NO_TOKEN = -1


class Slots(NamedTuple):
    """The state on the device: the cache of all rows, and the logits of their next tokens, float32 [B V]."""

    cache: Cache
    logits: FloatBV


class Steps(NamedTuple):
    """The settings by which b rows decode; numpy arrays [b].

    Attributes:
        active: bool; the others do nothing.
        remaining: int32, tokens until the row's max_tokens.
        ends: int32 [b E], tokens that end a row; -1 is none.
        seeds: int32, of the draws.
        numbers: int32, so that rows of one seed draw independently.
        by: temperature, top-k and top-p.
        logprobs: bool scalar, whether any row reports probabilities.
    """

    active: np.ndarray
    remaining: np.ndarray
    ends: np.ndarray
    seeds: np.ndarray
    numbers: np.ndarray
    by: Choices
    logprobs: np.bool_


class Decoded(NamedTuple):
    """The tokens that b rows decoded in one call, [b steps]; NO_TOKEN after a row's last, which may be NOT_FINITE.

    `logprobs` are those of the tokens, `top_ids` and `top_logprobs` [b steps 20] of the most probable ones; all zero
    where `Steps.logprobs` is False.
    """

    tokens: jax.Array
    logprobs: jax.Array
    top_ids: jax.Array
    top_logprobs: jax.Array

    def new_tokens(self) -> list[list[int]]:
        """Returns the tokens of each row, on the host."""
        return [[int(id) for id in ids if id != NO_TOKEN] for ids in np.asarray(self.tokens)]


_Carry = tuple[jax.Array, Cache, jax.Array, jax.Array, Decoded]


def decoding_layers(decoder: Decoder) -> tuple[nnx.State, ...]:
    """Returns the layers for `decode`: on a CPU those of `Decoder.layers`, a copy; elsewhere none is needed."""
    return decoder.layers() if target().platform == "cpu" else ()


@partial(jax.jit, static_argnames=("definition", "rows", "capacity"))
def empty_slots(definition: nnx.GraphDef[Decoder], params: nnx.State, *, rows: int, capacity: int) -> Slots:
    """Returns slots for `rows` requests of up to `capacity` tokens each."""
    return _empty(nnx.merge(definition, params), rows, capacity)


@partial(jax.jit, static_argnames=("definition", "capacity"))
def begin(definition: nnx.GraphDef[Decoder], params: nnx.State, tokens: IntBT, counts: IntB, *, capacity: int) -> Slots:
    """Returns slots of B rows of up to `capacity` tokens, which begin with the first `counts` of the tokens [B T]."""
    decoder, zero = nnx.merge(definition, params), jnp.int32(0)
    return _prefill(decoder, _empty(decoder, len(tokens), capacity), tokens, counts, zero, zero)


@partial(jax.jit, static_argnames="definition", donate_argnames="slots")
def prefill(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    slots: Slots,
    tokens: IntBT,
    counts: IntB,
    start: jax.Array,
    first: jax.Array,
) -> Slots:
    """Puts parts of prompts, the first `counts` of the tokens [b T], behind the first `start` tokens of their rows.

    The rows are b neighbours from `first` on; one whose count is 0 stays as it is.
    """
    return _prefill(nnx.merge(definition, params), slots, tokens, counts, start, first)


@partial(jax.jit, donate_argnames="slots")
def copy_row(slots: Slots, source: jax.Array, target: jax.Array) -> Slots:
    """Copies the keys and values of a row over those of another."""

    def copied(stack: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_slice_in_dim(stack, source, 1, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(stack, row, target, axis=1)

    return _with_stacks(slots, copied)


@partial(jax.jit, donate_argnames="slots")
def clear_row(slots: Slots, row: jax.Array, start: jax.Array) -> Slots:
    """Zeroes the keys and values of a row from slot `start` on.

    A request leaves its own there. Attention gives them no weight, but where they are NaN, 0 x NaN is NaN.
    """

    def cleared(stack: jax.Array) -> jax.Array:
        old = jax.lax.dynamic_slice_in_dim(stack, row, 1, axis=1)
        kept = (jnp.arange(stack.shape[3]) < start)[:, None]
        return jax.lax.dynamic_update_slice_in_dim(stack, jnp.where(kept, old, 0), row, axis=1)

    return _with_stacks(slots, cleared)


@partial(jax.jit, static_argnames=("definition", "steps", "vocab_size"), donate_argnames="slots")
def decode(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    layers: Sequence[nnx.State],
    slots: Slots,
    how: Steps,
    first: jax.Array,
    *,
    steps: int,
    vocab_size: int,
) -> tuple[Slots, Decoded]:
    """Decodes up to `steps` tokens of each active row among b rows from `first` on.

    A token depends on the row's seed, its number and its length, not on the other rows or on `steps`.

    layers: of `decoding_layers`. vocab_size: pieces of the tokenizer, of which the model's vocabulary may have more.
    """
    decoder = nnx.merge(definition, params)
    batch = len(how.active)
    first = _first_of(slots, batch, first)
    keys = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(how.seeds, how.numbers)
    empty = jnp.zeros((batch, steps, MOST_LOGPROBS), jnp.float32)
    blank = Decoded(jnp.full((batch, steps), NO_TOKEN, jnp.int32), empty[..., 0], empty.astype(jnp.int32), empty)

    def step(carry: _Carry) -> _Carry:
        index, cache, logits, active, out = carry
        lengths = jax.lax.dynamic_slice_in_dim(cache.lengths, first, batch)
        known = logits[:, :vocab_size]
        token = sample(known, jax.vmap(jax.random.fold_in)(keys, lengths), how.by)
        probabilities = jax.lax.cond(how.logprobs, _logprobs, _no_logprobs, known, token)
        finite = jnp.isfinite(jnp.max(known, axis=-1))
        new = (jnp.where(active, jnp.where(finite, token, NOT_FINITE), NO_TOKEN), *probabilities)
        out = Decoded(*(all.at[:, index].set(column) for all, column in zip(out, new, strict=True)))
        hidden, cache = decoder.decode(token[:, None], cache, active.astype(jnp.int32), first, layers)
        logits = jnp.where(active[:, None], decoder.logits(hidden)[:, 0].astype(jnp.float32), logits)
        ended = jnp.any(token[:, None] == how.ends, axis=1) | (index + 1 >= how.remaining) | ~finite
        return index + 1, cache, logits, active & ~ended, out

    logits = jax.lax.dynamic_slice_in_dim(slots.logits, first, batch)
    _, cache, logits, _, out = jax.lax.while_loop(
        lambda carry: (carry[0] < steps) & jnp.any(carry[3]),
        step,
        (jnp.int32(0), slots.cache, logits, jnp.asarray(how.active), blank),
    )
    # Replicated, so that every process can read all of it.
    out = Decoded(*map(decoder.layout.placement.constrain, out))
    return Slots(cache, jax.lax.dynamic_update_slice_in_dim(slots.logits, logits, first, axis=0)), out


def _with_stacks(slots: Slots, change: Callable[[jax.Array], jax.Array]) -> Slots:
    """Returns slots with the keys and values of all layers changed."""
    layers = tuple(LayerCache(change(layer.keys), change(layer.values)) for layer in slots.cache.layers)
    return Slots(Cache(layers, slots.cache.lengths), slots.logits)


def _empty(decoder: Decoder, rows: int, capacity: int) -> Slots:
    return Slots(decoder.new_cache(rows, capacity), jnp.zeros((rows, decoder.config.vocab_size), jnp.float32))


def _prefill(decoder: Decoder, slots: Slots, tokens: IntBT, counts: IntB, start: jax.Array, first: jax.Array) -> Slots:
    first = _first_of(slots, len(tokens), first)
    before = jax.lax.dynamic_slice_in_dim(slots.cache.lengths, first, len(tokens))
    lengths = jnp.where(counts > 0, start, before)
    lengths = jax.lax.dynamic_update_slice_in_dim(slots.cache.lengths, lengths, first, axis=0)
    hidden, cache = decoder.decode(tokens, slots.cache._replace(lengths=lengths), counts, first)
    last = jnp.take_along_axis(hidden, jnp.maximum(counts - 1, 0)[:, None, None], axis=1)
    old = jax.lax.dynamic_slice_in_dim(slots.logits, first, len(tokens))
    logits = jnp.where(counts[:, None] > 0, decoder.logits(last)[:, 0].astype(jnp.float32), old)
    return Slots(cache, jax.lax.dynamic_update_slice_in_dim(slots.logits, logits, first, axis=0))


def _first_of(slots: Slots, batch: int, first: jax.Array) -> jax.Array:
    """Returns `first`, as a constant where the rows are all there are: a mesh may split rows that nothing slices."""
    return jnp.int32(0) if batch == len(slots.logits) else first


def _logprobs(logits: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    log_probs = jax.nn.log_softmax(logits)
    top, ids = jax.lax.top_k(log_probs, min(MOST_LOGPROBS, logits.shape[-1]))
    missing = ((0, 0), (0, MOST_LOGPROBS - top.shape[-1]))
    top, ids = jnp.pad(top, missing, constant_values=-jnp.inf), jnp.pad(ids, missing)
    return jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0], ids, top


def _no_logprobs(_: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    zeros = jnp.zeros((len(token), MOST_LOGPROBS), jnp.float32)
    return zeros[:, 0], zeros.astype(jnp.int32), zeros
