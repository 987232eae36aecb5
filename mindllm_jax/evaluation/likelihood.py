"""Log-likelihoods of continuations after contexts, which most benchmark tasks compare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

from mindllm_jax.batching.buckets import multiple_of, power_of_two
from mindllm_jax.evaluation.prefix_rows import Levels, Row, rows_of, shared_levels
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.model.prefix import Prefix

ROW_LENGTH = 512  # packed rows have this length or a multiple of it, or Model.max_seq_len
HEAD_CHUNK = 64  # tokens per row whose logits exist at the same time
FEWEST_PLACES = 32  # asked per row, so that few shapes occur
_AXES = ("batch", "length", "features")

Array = TypeVar("Array", np.ndarray, jax.Array)


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
    """Tokens to read, of queries that differ in their last token only, or in where the continuation begins."""

    tokens: np.ndarray
    queries: list[tuple[int, int, int]]  # number of the query, tokens that it asks, which of the last tokens
    lasts: list[int]  # different tokens that are asked after the whole sequence

    @property
    def asked(self) -> int:
        """Number of places, the last ones, at which the next token is asked."""
        return max(asked for _, asked, _ in self.queries)


def likelihoods(
    decoder: Decoder, queries: Sequence[Query], *, batch_size: int = 16, title: str = "scoring"
) -> list[Likelihood]:
    """Returns the likelihood of every query, in order; shows progress.

    Queries that differ in the last token only (the letters of a multiple choice) share one pass, and a prefix that
    many have in common, as the examples of a few-shot prompt, is computed once per batch (`prefix_rows`). Sequences are
    packed into rows of one length, as documents are in training, so that little is padded and one program serves all.

    Memory is that of a forward pass over `batch_size` rows of 512 tokens, or as many more as the longest query has,
    whatever the number and kind of the queries: the keys and values of a layer exist for the rows of a batch, the
    logits for 64 tokens of a row. A prefix needs rows that are not split over devices and a batch of more than one.

    A query longer than Model.max_seq_len loses its beginning. Raises ValueError for an empty context, and
    NotFiniteError where a log-likelihood is NaN, of which the first choice would be the best.
    """
    longest = decoder.config.max_seq_len
    sequences = _sequences(queries, longest)
    tokens = [sequence.tokens for sequence in sequences]
    length = min(longest, multiple_of(ROW_LENGTH, max(map(len, tokens), default=1)))
    placement = decoder.layout.placement
    count = placement.even_rows(batch_size)
    levels = Levels([], [])
    if placement.shards("length") == 1:
        shareable = [len(sequence.tokens) - sequence.asked for sequence in sequences]
        levels = shared_levels(tokens, shareable, length, far=count > 1)
    batches = rows_of(tokens, levels, length, count)
    if len(batches) == 1:  # a few items of a large model should not cost a whole batch
        count = min(count, placement.even_rows(power_of_two(len(batches[0]))))
    empty = _empty(batches, sequences, levels, count, length)
    answers = [Likelihood(0.0, True, 0)] * len(queries)
    definition, params = nnx.split(decoder)
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    for batch in track(batches, title, console=console, transient=True):
        arrays = jax.tree.map(lambda x: placement.place(x, *_AXES[: x.ndim]), _filled(empty, batch, sequences))
        logs, best = jax.device_get(_score(definition, params, arrays))
        for index, row in enumerate(batch):
            end = 0
            for sequence in (sequences[number] for number in row.sequences):
                end += sequence.asked
                for number, asked, last in sequence.queries:
                    inner, outer = (index, slice(end - asked, end - 1), 0), (index, end - 1, last)
                    log = logs[inner].sum(dtype=np.float64) + logs[outer]
                    if np.isnan(log):
                        raise NotFiniteError("a log-likelihood is not a number")
                    cut = max(0, len(queries[number].context) + len(queries[number].continuation) - longest - 1)
                    answers[number] = Likelihood(float(log), bool(best[inner].all() and best[outer]), cut)
    return answers


def _sequences(queries: Sequence[Query], longest: int) -> list[_Sequence]:
    """Returns the sequences that all queries need, ordered by the tokens before the first asked place."""
    sequences: dict[bytes, _Sequence] = {}
    for number, (context, continuation) in enumerate(queries):
        if not len(context):
            raise ValueError("a continuation needs a context; at the beginning of a document that is the token <doc>")
        if not len(continuation):
            continue
        ids = np.array([*context, *continuation][-longest - 1 :], np.int32)
        sequence = sequences.setdefault(ids[:-1].tobytes(), _Sequence(ids[:-1], [], []))
        last = int(ids[-1])
        if last not in sequence.lasts:
            sequence.lasts.append(last)
        sequence.queries.append((number, min(len(continuation), len(ids) - 1), sequence.lasts.index(last)))
    # The bytes of big-endian numbers compare as the numbers do.
    return sorted(sequences.values(), key=lambda sequence: sequence.tokens[: -sequence.asked].astype(">i4").tobytes())


class _Batch(NamedTuple, Generic[Array]):
    """The arrays of a batch; C places per row are asked, for U tokens each. None: no row has such a prefix."""

    tokens: Array  # int32 [B T]
    segment_ids: Array  # int32 [B T]
    positions: Array  # int32 [B T], within the sequence
    far_ids: Array | None  # int32 [B T], segment ids of far prefixes
    far_rows: Array | None  # int32 [B], rows in which these are
    near_ids: Array | None  # int32 [B T], segment ids of near prefixes
    places: Array  # int32 [B C]
    targets: Array  # int32 [B C U]


def _empty(
    batches: Sequence[Sequence[Row]], sequences: Sequence[_Sequence], levels: Levels, count: int, length: int
) -> _Batch[np.ndarray]:
    """Returns the arrays of a batch without rows, in a shape that fits all batches."""
    most = max((sum(sequences[n].asked for n in row.sequences) for batch in batches for row in batch), default=1)
    places = max(FEWEST_PLACES, power_of_two(most) if most < HEAD_CHUNK else multiple_of(HEAD_CHUNK, most))
    answers = power_of_two(max((len(sequence.lasts) for sequence in sequences), default=1))

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape), np.int32)

    return _Batch(
        *(zeros(length) for _ in range(3)),
        far_ids=zeros(length) if levels.far else None,
        far_rows=zeros() if levels.far else None,
        near_ids=zeros(length) if levels.near else None,
        places=zeros(places),
        targets=zeros(places, answers),
    )


def _filled(empty: _Batch[np.ndarray], rows: Sequence[Row], sequences: Sequence[_Sequence]) -> _Batch[np.ndarray]:
    """Returns the arrays of some rows."""
    batch: _Batch[np.ndarray] = jax.tree.map(np.copy, empty)
    for index, row in enumerate(rows):
        begin, first = 0, 0
        if batch.far_rows is not None:
            batch.far_rows[index] = row.far_row
        for segment, part in enumerate(row.segments, start=1):
            end = begin + len(part.tokens)
            where = index, slice(begin, end)
            batch.tokens[where], batch.segment_ids[where] = part.tokens, segment
            batch.positions[where] = np.arange(end - begin) + part.position
            if batch.far_ids is not None:
                batch.far_ids[where] = part.far
            if batch.near_ids is not None:
                batch.near_ids[where] = segment - part.near if part.near else 0
            if part.sequence is not None:
                sequence = sequences[part.sequence]
                last = first + sequence.asked - 1
                batch.places[index, first : last + 1] = range(end - sequence.asked, end)
                batch.targets[index, first:last] = sequence.tokens[len(sequence.tokens) - sequence.asked + 1 :, None]
                batch.targets[index, last, : len(sequence.lasts)] = sequence.lasts
                first = last + 1
            begin = end
    return batch


@partial(jax.jit, static_argnames="definition")
def _score(
    definition: nnx.GraphDef[Decoder], params: nnx.State, batch: _Batch[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns the log-probability of each target, float32 [B C U], and whether it is the most probable token."""
    decoder = nnx.merge(definition, params)
    prefixes: list[Prefix] = []
    if batch.far_ids is not None:
        prefixes.append(Prefix(batch.far_ids, batch.far_rows))
    if batch.near_ids is not None:
        prefixes.append(Prefix(batch.near_ids))
    hidden = decoder(batch.tokens, segment_ids=batch.segment_ids, positions=batch.positions, prefixes=prefixes)
    asked = jnp.take_along_axis(hidden, batch.places[..., None], axis=1)

    def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = chunk
        logits = decoder.logits(hidden)
        chosen = jnp.take_along_axis(logits, targets, axis=-1)
        return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True), jnp.argmax(
            logits, -1, keepdims=True
        ) == targets

    # The logits [B C V] of all places could be larger than the model.
    size = min(HEAD_CHUNK, batch.places.shape[1])

    def split(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, x.shape[2]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        # Replicated, so that every process can read all of it.
        return decoder.layout.placement.constrain(jnp.moveaxis(x, 0, 1).reshape(batch.targets.shape))

    logs, best = jax.lax.map(of_chunk, (split(asked), split(batch.targets)))
    return join(logs), join(best)
