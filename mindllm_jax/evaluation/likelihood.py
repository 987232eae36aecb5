"""Log-likelihoods of continuations after contexts, which most benchmark tasks compare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.batching.buckets import multiple_of, power_of_two
from mindllm_jax.batching.packing import first_fit
from mindllm_jax.model.decoder import Decoder

ROW_LENGTH = 512  # packed rows have this length or a multiple of it, or Model.max_seq_len
HEAD_CHUNK = 64  # tokens per row whose logits exist at the same time


class Query(NamedTuple):
    """Token ids of a context, at least one, and of its continuation."""

    context: Sequence[int]
    continuation: Sequence[int]


class Likelihood(NamedTuple):
    """The likelihood of a query's continuation."""

    log: float  # log-probability of the continuation after the context, in nats
    greedy: bool  # whether every token of it is the most probable one
    cut: int  # tokens cut at the beginning, because the query is longer than Model.max_seq_len


class _Sequence(NamedTuple):
    """Tokens to read, and the asked ones: token `targets[i]` after `tokens[: places[i] + 1]`."""

    tokens: tuple[int, ...]
    places: list[int]
    targets: list[int]
    queries: list[tuple[int, int]]  # (number of the query, how many tokens it asks), in the order of the places


def likelihoods(
    decoder: Decoder, queries: Sequence[Query], *, batch_size: int = 16, title: str = "scoring"
) -> list[Likelihood]:
    """Returns the likelihood of every query, in order; shows progress.

    Queries that differ in the last token only (the letters of a multiple choice) share one pass. Sequences are packed
    into rows of one length, as documents are in training, so that little is padded and one program serves all.

    A query longer than Model.max_seq_len loses its beginning. Raises ValueError for an empty context.
    """
    answers = [Likelihood(0.0, True, 0)] * len(queries)
    longest = decoder.config.max_seq_len
    # Longest first, which packs well.
    sequences = sorted(_sequences(queries, longest), key=lambda sequence: -len(sequence.tokens))
    lengths = [len(sequence.tokens) for sequence in sequences]
    length = min(longest, multiple_of(ROW_LENGTH, max(lengths, default=1)))
    rows = [[sequences[i] for i in members] for members in first_fit(lengths, length).bins]
    asked = _bucket(max((sum(len(sequence.targets) for sequence in row) for row in rows), default=1))
    placement = decoder.layout.placement
    count = placement.even_rows(batch_size)
    batches = [rows[start : start + count] for start in range(0, len(rows), count)]
    definition, params = nnx.split(decoder)
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    for batch in track(batches, title, console=console, transient=True):
        arrays = [placement.place(array, "batch", "length") for array in _arrays(batch, count, length, asked)]
        logs, best = jax.device_get(_score(definition, params, *arrays))
        for index, row in enumerate(batch):
            start = 0
            for number, size in (query for sequence in row for query in sequence.queries):
                part = slice(start, start + size)
                start += size
                cut = max(0, len(queries[number].context) + len(queries[number].continuation) - longest - 1)
                log = float(logs[index, part].sum(dtype=np.float64))
                answers[number] = Likelihood(log, bool(best[index, part].all()), cut)
    return answers


def _sequences(queries: Sequence[Query], longest: int) -> list[_Sequence]:
    sequences: dict[tuple[int, ...], _Sequence] = {}
    for number, (context, continuation) in enumerate(queries):
        if not len(context):
            raise ValueError("a continuation needs a context; at the beginning of a document that is the token <doc>")
        if not len(continuation):
            continue
        ids = (*context, *continuation)[-longest - 1 :]
        tokens, asked = ids[:-1], min(len(continuation), len(ids) - 1)
        sequence = sequences.setdefault(tokens, _Sequence(tokens, [], [], []))
        sequence.places.extend(range(len(tokens) - asked, len(tokens)))
        sequence.targets.extend(ids[len(ids) - asked :])
        sequence.queries.append((number, asked))
    return list(sequences.values())


def _bucket(asked: int) -> int:
    """Returns the size of the arrays for so many asked tokens: a power of two, above HEAD_CHUNK a multiple of it."""
    return power_of_two(asked) if asked < HEAD_CHUNK else multiple_of(HEAD_CHUNK, asked)


def _arrays(rows: Sequence[Sequence[_Sequence]], count: int, length: int, asked: int) -> tuple[np.ndarray, ...]:
    """Returns tokens, segment ids and positions [B T], places and targets [B C]; C asked tokens per row."""
    tokens, segment_ids, positions = np.zeros((3, count, length), np.int32)
    places, targets = np.zeros((2, count, asked), np.int32)
    for index, row in enumerate(rows):
        begin, first = 0, 0
        for segment, sequence in enumerate(row, start=1):
            end, last = begin + len(sequence.tokens), first + len(sequence.targets)
            tokens[index, begin:end], segment_ids[index, begin:end] = sequence.tokens, segment
            positions[index, begin:end] = range(end - begin)
            places[index, first:last] = np.add(sequence.places, begin)
            targets[index, first:last] = sequence.targets
            begin, first = end, last
    return tokens, segment_ids, positions, places, targets


@partial(jax.jit, static_argnames="definition")
def _score(
    definition: nnx.GraphDef[Decoder],
    params: nnx.State,
    tokens: jax.Array,
    segment_ids: jax.Array,
    positions: jax.Array,
    places: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns the log-probability of each target, float32 [B C], and whether it is the most probable token."""
    decoder = nnx.merge(definition, params)
    hidden = decoder(tokens, segment_ids=segment_ids, positions=positions)
    asked = jnp.take_along_axis(hidden, places[..., None], axis=1)

    def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = chunk
        logits = decoder.logits(hidden)
        chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1) == targets

    # The logits [B C V] of all asked tokens could be larger than the model.
    size = min(HEAD_CHUNK, targets.shape[1])

    def split(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        # Replicated, so that every process can read all of it.
        return decoder.layout.placement.constrain(jnp.moveaxis(x, 0, 1).reshape(targets.shape))

    logs, best = jax.lax.map(of_chunk, (split(asked), split(targets)))
    return join(logs), join(best)
