"""Batched generation with a key-value cache.

Lengths and rows are rounded up to powers of two, because XLA compiles a program for each shape. A loop on the device
decodes tokens in chunks; between chunks the host looks for stop strings and yields text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.batching.buckets import power_of_two
from mindllm_jax.generation.continuation import Continuation, Finish, check_prompt
from mindllm_jax.generation.sampling import Choices, Sampling, choices, sample
from mindllm_jax.generation.slots import NO_TOKEN
from mindllm_jax.model.decoder import Cache, Decoder
from mindllm_jax.shapes import FloatBV, IntB, IntBT, KeyB
from mindllm_jax.tokenization.tokenizer import Tokenizer

BATCH_CHUNK = 32  # tokens per chunk of a batch
STREAM_CHUNK = 4  # tokens per chunk of a stream
SMALLEST_LENGTH = 32  # prompts and caches are padded to it

Prompt = str | Sequence[int] | np.ndarray  # token ids, or the beginning of a document as text


class Completion(NamedTuple):
    """The continuation of one prompt."""

    tokens: list[int]  # without the end token, up to the one that completes a stop string
    text: str  # up to the stop string
    finish: Finish
    cut: int  # tokens cut from the left of the prompt


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    truncate: bool = False,
    batch_size: int = 16,
) -> list[Completion]:
    """Continues each prompt; a continuation depends neither on the other prompts nor on `batch_size`.

    Args:
        decoder: the model, in one process, on one device or a mesh.
        tokenizer: its tokenizer.
        prompts: token ids, or the beginning of a document as text.
        sampling: temperature, top-k, max_tokens and seed.
        stop_ids: tokens that end a row; `<doc>` by default.
        stop_strings: texts that end a row; they are not part of it.
        truncate: cut a prompt that is too long on its left, instead of raising.
        batch_size: prompts decoded at a time.

    Raises ValueError for an empty prompt, one too long for Model.max_seq_len, or a token outside the vocabulary.
    """
    rows = [
        _Row(number, prompt, decoder, tokenizer, sampling, stop_ids, stop_strings, truncate)
        for number, prompt in enumerate(prompts)
    ]
    # Prompts of similar length need the least padding; longest first, so that running out of memory happens at once.
    by_length = sorted(rows, key=lambda row: -len(row.prompt))
    for start in range(0, len(rows), batch_size):
        batch = by_length[start : start + batch_size]
        for _ in _decode_rows(decoder, tokenizer, batch, sampling, BATCH_CHUNK):
            pass
    return [row.completion() for row in rows]


def stream(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    *,
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
) -> Iterator[str]:
    """Yields the text that `generate` returns for one prompt, piece by piece. Raises as it does."""
    row = _Row(0, prompt, decoder, tokenizer, sampling, stop_ids, stop_strings)
    for (piece,) in _decode_rows(decoder, tokenizer, [row], sampling, STREAM_CHUNK):
        if piece:
            yield piece


class _Row:
    """One prompt and its continuation so far."""

    def __init__(
        self,
        number: int,
        prompt: Prompt,
        decoder: Decoder,
        tokenizer: Tokenizer,
        sampling: Sampling,
        stop_ids: Sequence[int] | None,
        stop_strings: Sequence[str],
        truncate: bool = False,
    ):
        ids = [tokenizer.doc_id, *tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        longest, name = decoder.config.max_seq_len, f"prompt {number}"
        new_tokens = sampling.new_tokens(longest)
        room = check_prompt(ids, tokenizer.vocab_size, longest, new_tokens, name=name, truncate=truncate)
        self.number = number
        self.cut = max(0, len(ids) - room)
        self.prompt = np.asarray(ids[self.cut :], np.int32)
        stop_ids = (tokenizer.doc_id,) if stop_ids is None else stop_ids
        self.continuation = Continuation(tokenizer, new_tokens, stop_ids, stop_strings)

    def completion(self) -> Completion:
        done = self.continuation
        assert done.finish is not None
        return Completion(done.tokens, done.text, done.finish, self.cut)


class _State(NamedTuple):
    """The state on the device between two chunks."""

    cache: Cache
    logits: FloatBV  # float32, of the next token
    keys: KeyB  # one per prompt


def _decode_rows(
    decoder: Decoder,
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    sampling: Sampling,
    chunk: int,
) -> Iterator[list[str]]:
    """Decodes until every row is finished; yields, after each chunk, the text that it adds to each row."""
    longest = decoder.config.max_seq_len
    new_tokens = sampling.new_tokens(longest)
    length = _rounded(max(len(row.prompt) for row in rows), longest - new_tokens)
    capacity = _rounded(length + new_tokens, longest)
    count = decoder.layout.placement.even_rows(power_of_two(len(rows)))
    tokens, lengths, numbers = _pad(rows, count, length, tokenizer.pad_id)
    padding = [True] * (len(tokens) - len(rows))

    definition, params = nnx.split(decoder)
    ends, by, vocab_size = (
        np.array(rows[0].continuation.stop_ids, np.int32),
        choices([sampling] * count),
        tokenizer.vocab_size,
    )
    state = _prefill(definition, params, tokens, lengths, numbers, sampling.seed, capacity)
    for decoded in range(0, new_tokens, chunk):
        done = np.array([row.continuation.finish is not None for row in rows] + padding)
        if done.all():
            return
        limit = min(chunk, new_tokens - decoded)
        state, new = _decode(definition, params, state, done, limit, ends, by, chunk, vocab_size)
        added = [[int(id) for id in ids if id != NO_TOKEN] for ids in np.asarray(new)]
        yield [row.continuation.add(ids) for row, ids in zip(rows, added, strict=False)]


@partial(jax.jit, static_argnames=("definition", "capacity"))
def _prefill(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    tokens: IntBT,
    lengths: IntB,
    numbers: IntB,
    seed: int,
    capacity: int,
) -> _State:
    """Fills the cache with the prompts [B T], which are padded on the right of their lengths."""
    decoder = nnx.merge(definition, params)
    hidden, cache = decoder.decode(tokens, decoder.new_cache(len(tokens), capacity), lengths)
    last = jnp.take_along_axis(hidden, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
    return _State(cache, decoder.logits(last)[:, 0], keys)


@partial(
    jax.jit,
    static_argnames=("definition", "chunk", "vocab_size"),
    donate_argnames="state",
)
def _decode(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    state: _State,
    done: jax.Array,
    limit: int,
    ends: jax.Array,
    by: Choices,
    chunk: int,
    vocab_size: int,
) -> tuple[_State, jax.Array]:
    """Decodes `limit` <= `chunk` tokens of each row, or fewer when all rows are `done` or reached one of `ends`.

    Returns the new state and the new tokens [B chunk], NO_TOKEN after a row's last.
    """
    decoder = nnx.merge(definition, params)

    def unfinished(carry: tuple[jax.Array, _State, jax.Array, jax.Array]) -> jax.Array:
        index, _, done, _ = carry
        return (index < limit) & ~jnp.all(done)

    def step(
        carry: tuple[jax.Array, _State, jax.Array, jax.Array],
    ) -> tuple[jax.Array, _State, jax.Array, jax.Array]:
        index, state, done, out = carry
        keys = jax.vmap(jax.random.fold_in)(state.keys, state.cache.lengths)
        # The model's vocabulary may be padded beyond the tokenizer's.
        token = sample(state.logits[:, :vocab_size], keys, by)
        out = out.at[:, index].set(jnp.where(done, NO_TOKEN, token))
        hidden, cache = decoder.decode(token[:, None], state.cache)
        state = _State(cache, decoder.logits(hidden)[:, 0], state.keys)
        return index + 1, state, done | jnp.isin(token, ends), out

    out = jnp.full((len(done), chunk), NO_TOKEN, jnp.int32)
    _, state, _, out = jax.lax.while_loop(unfinished, step, (jnp.int32(0), state, done, out))
    return state, out


def _pad(rows: Sequence[_Row], count: int, length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pads prompts to tokens [count, length], and returns their lengths and numbers, [count]."""
    tokens = np.full((count, length), pad_id, np.int32)
    lengths, numbers = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row.prompt)], lengths[index], numbers[index] = row.prompt, len(row.prompt), row.number
    return tokens, lengths, numbers


def _rounded(length: int, most: int) -> int:
    return min(most, max(SMALLEST_LENGTH, power_of_two(length)))
