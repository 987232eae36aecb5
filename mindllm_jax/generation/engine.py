"""Batched generation with a key-value cache.

Lengths and rows are rounded up to powers of two, because XLA compiles a program for each shape. A loop on the device
decodes tokens in chunks; between chunks the host looks for stop strings and yields text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.batching.buckets import power_of_two
from mindllm_jax.generation.continuation import Continuation, Finish, check_prompt
from mindllm_jax.generation.sampling import Sampling, choices
from mindllm_jax.generation.slots import Steps, begin, decode, decoding_layers
from mindllm_jax.model.decoder import Decoder
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
        stop_ids: tokens that end a row; `Tokenizer.text_ends` by default.
        stop_strings: texts that end a row; they are not part of it.
        truncate: cut a prompt that is too long on its left, instead of raising.
        batch_size: prompts decoded at a time.

    Raises ValueError for an empty prompt, one too long for Model.max_seq_len, a token outside the vocabulary, and
    logits that are not finite (NotFiniteError).
    """
    rows = [
        _Row(number, prompt, decoder, tokenizer, sampling, stop_ids, stop_strings, truncate)
        for number, prompt in enumerate(prompts)
    ]
    # Prompts of similar length need the least padding; longest first, so that running out of memory happens at once.
    by_length = sorted(rows, key=lambda row: -len(row.prompt))
    layers = decoding_layers(decoder)
    for start in range(0, len(rows), batch_size):
        batch = by_length[start : start + batch_size]
        for _ in _decode_rows(decoder, layers, tokenizer, batch, sampling, BATCH_CHUNK):
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
    layers = decoding_layers(decoder)
    for (piece,) in _decode_rows(decoder, layers, tokenizer, [row], sampling, STREAM_CHUNK):
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
        stop_ids = tokenizer.text_ends if stop_ids is None else stop_ids
        self.continuation = Continuation(tokenizer, new_tokens, stop_ids, stop_strings)

    def completion(self) -> Completion:
        done = self.continuation
        assert done.finish is not None
        return Completion(done.tokens, done.text, done.finish, self.cut)


def _decode_rows(
    decoder: Decoder,
    layers: tuple[nnx.State, ...],
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    sampling: Sampling,
    chunk: int,
) -> Iterator[list[str]]:
    """Decodes until every row is finished; yields, after each chunk, the text that it adds to each row.

    layers: of `decoding_layers`.
    """
    longest = decoder.config.max_seq_len
    new_tokens = sampling.new_tokens(longest)
    length = _rounded(max(len(row.prompt) for row in rows), longest - new_tokens)
    capacity = _rounded(length + new_tokens, longest)
    count = decoder.layout.placement.even_rows(power_of_two(len(rows)))
    tokens, lengths, numbers = _pad(rows, count, length, tokenizer.pad_id)

    program = nnx.split(decoder)
    ends = np.tile(np.array(rows[0].continuation.stop_ids, np.int32), (count, 1))
    seeds, by = np.full(count, sampling.seed, np.int32), choices([sampling] * count)
    slots = begin(*program, tokens, lengths, capacity=capacity)
    for decoded in range(0, new_tokens, chunk):
        active = np.array([row.continuation.finish is None for row in rows] + [False] * (count - len(rows)))
        if not active.any():
            return
        remaining = np.full(count, new_tokens - decoded, np.int32)
        how = Steps(active, remaining, ends, seeds, numbers, by, np.bool_(False))
        slots, new = decode(*program, layers, slots, how, jnp.int32(0), steps=chunk, vocab_size=tokenizer.vocab_size)
        yield [row.continuation.add(ids) for row, ids in zip(rows, new.new_tokens(), strict=False)]
        for row in rows:
            if row.continuation.finish == "failed":
                raise row.continuation.not_finite()


def _pad(rows: Sequence[_Row], count: int, length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pads prompts to tokens [count, length], and returns their lengths and numbers, [count]."""
    tokens = np.full((count, length), pad_id, np.int32)
    lengths, numbers = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row.prompt)], lengths[index], numbers[index] = row.prompt, len(row.prompt), row.number
    return tokens, lengths, numbers


def _rounded(length: int, most: int) -> int:
    return min(most, max(SMALLEST_LENGTH, power_of_two(length)))
