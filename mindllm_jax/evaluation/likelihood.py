"""How probable a model finds continuations of contexts: the question behind most benchmark tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.model.decoder import Decoder
from mindllm_jax.training.placement import even_rows, place, sharding_of

SMALLEST_LENGTH = 64  # shorter rows are padded to it
SMALLEST_COUNT = 4  # and fewer asked tokens a row to this
HEAD_CHUNK = 64  # tokens a row whose logits exist at one time


class Query(NamedTuple):
    """Token ids of a context, at least one, and of what is to follow it."""

    context: Sequence[int]
    continuation: Sequence[int]


class Likelihood(NamedTuple):
    """What a model says to a query."""

    log: float  # natural logarithm of the probability of the continuation after the context
    greedy: bool  # whether every token of it is the most probable one
    cut: int  # tokens left out at the beginning, because the whole is longer than the model reads


class _Row(NamedTuple):
    """One forward pass, and the tokens that are asked of it: token `targets[i]` after `tokens[: places[i] + 1]`."""

    tokens: tuple[int, ...]
    places: list[int]
    targets: list[int]
    queries: list[tuple[int, int]]  # (number of the query, number of its tokens), in the order of the places


def likelihoods(
    decoder: Decoder, queries: Sequence[Query], *, batch_rows: int = 16, title: str = "scoring"
) -> list[Likelihood]:
    """The likelihood of every query, in order; shows progress.

    Queries that differ in the last token only (the letters of a multiple choice) share one forward pass. Rows are
    sorted by length and padded to powers of two, numbers of asked tokens to powers of four: few shapes are compiled.

    What is longer than Model.max_length loses its beginning. Raises ValueError for an empty context.
    """
    answers = [Likelihood(0.0, True, 0)] * len(queries)
    rows = sorted(_rows(decoder, queries), key=lambda row: -len(row.tokens))
    count = even_rows(decoder, batch_rows)
    batches = [rows[start : start + count] for start in range(0, len(rows), count)]
    definition, params = nnx.split(decoder)
    longest = decoder.config.max_length
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    for batch in track(batches, title, console=console, transient=True):
        arrays = [place(decoder, array, "batch", "length") for array in _padded(batch, count, longest)]
        logs, best = jax.device_get(_score(definition, params, *arrays))
        for index, row in enumerate(batch):
            for number, chosen in _parts(row):
                query = queries[number]
                cut = max(0, len(query.context) + len(query.continuation) - longest - 1)
                log = float(logs[index, chosen].sum(dtype=np.float64))
                answers[number] = Likelihood(log, bool(best[index, chosen].all()), cut)
    return answers


def _rows(decoder: Decoder, queries: Sequence[Query]) -> list[_Row]:
    rows: dict[tuple[int, ...], _Row] = {}
    for number, (context, continuation) in enumerate(queries):
        if not len(context):
            raise ValueError("a continuation needs a context; the beginning of a document is the one token <doc>")
        if not len(continuation):
            continue
        whole = (*context, *continuation)[-decoder.config.max_length - 1 :]
        tokens, asked = whole[:-1], min(len(continuation), len(whole) - 1)
        row = rows.setdefault(tokens, _Row(tokens, [], [], []))
        row.places.extend(range(len(tokens) - asked, len(tokens)))
        row.targets.extend(whole[len(whole) - asked :])
        row.queries.append((number, asked))
    return list(rows.values())


def _parts(row: _Row) -> Iterator[tuple[int, slice]]:
    """The queries of a row, each with the slice of its asked tokens."""
    start = 0
    for number, asked in row.queries:
        yield number, slice(start, start + asked)
        start += asked


def _padded(rows: Sequence[_Row], count: int, longest: int) -> tuple[np.ndarray, ...]:
    """Tokens and segment ids [B T], places and targets [B C] of B = `count` rows."""
    length = max(len(row.tokens) for row in rows)
    length = min(longest, max(SMALLEST_LENGTH, 2 ** math.ceil(math.log2(length))))
    asked = max(SMALLEST_COUNT, 4 ** math.ceil(math.log(max(len(row.targets) for row in rows), 4)))
    tokens, segment_ids = np.zeros((count, length), np.int32), np.zeros((count, length), np.int32)
    places, targets = np.zeros((count, asked), np.int32), np.zeros((count, asked), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row.tokens)], segment_ids[index, : len(row.tokens)] = row.tokens, 1
        places[index, : len(row.places)], targets[index, : len(row.targets)] = row.places, row.targets
    return tokens, segment_ids, places, targets


@partial(jax.jit, static_argnames="definition")
def _score(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    tokens: jax.Array,
    segment_ids: jax.Array,
    places: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each target, float32 [B C], and whether it is the most probable token."""
    decoder = nnx.merge(definition, params)
    hidden = decoder(tokens, segment_ids=segment_ids)
    asked = jnp.take_along_axis(hidden, places[..., None], axis=1)

    def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = chunk
        logits = decoder.logits(hidden)
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1) == targets

    # The logits of all asked tokens at once could be larger than the model: [B C V].
    size = min(HEAD_CHUNK, targets.shape[1])

    def split(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        # Whole on every device, so that every process can read all of it.
        return sharding_of(decoder).constrain(jnp.moveaxis(x, 0, 1).reshape(targets.shape))

    logs, best = jax.lax.map(of_chunk, (split(asked), split(targets)))
    return join(logs), join(best)
