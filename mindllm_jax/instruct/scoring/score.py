"""Scores the conversations of some files under one model or two, shard by shard."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mindllm_jax.batching.chat_format import EncodedConversation, encode_conversations
from mindllm_jax.files import sha256
from mindllm_jax.hashing import hash64, permute
from mindllm_jax.instruct.conversations import Conversation, Refused, read_conversations
from mindllm_jax.instruct.scoring.forward import token_scores
from mindllm_jax.instruct.scoring.quantities import (
    Contexts,
    Score,
    compressed_bytes,
    contexts,
    quantities,
    response_header,
)
from mindllm_jax.instruct.scoring.shards import ScoreShards
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.together import from_first, require_same, together
from mindllm_jax.text.documents import SeenIds
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checksums import CHECKSUMS
from mindllm_jax.training.load_run import LoadedRun, RunRecord

SHARD = 2048
"""Conversations of a shard: what is packed together, is in memory at a time, and is lost by an interruption."""

_FORMAT = 3  # incremented when the same inputs give other scores


class Inputs(NamedTuple):
    """The files to score.

    Attributes:
        files: in the order in which they are read.
        on_bad: whether a malformed record raises, or is skipped and listed.
        on_long: whether a conversation longer than Model.max_seq_len loses its end or is not scored.
        sample: number of conversations that are drawn at random from all; None: all.
        seed: of the sample.
    """

    files: Sequence[Path]
    on_bad: Literal["error", "skip"]
    on_long: Literal["cut", "drop"]
    sample: int | None = None
    seed: int = 0


class Extent(NamedTuple):
    """Counts of what the files hold: conversations, their characters, and skipped records."""

    conversations: int
    characters: int
    refused: list[Refused]


def survey(inputs: Inputs) -> Extent:
    """Reads the files once, so that a malformed record raises before the long part begins.

    Raises as `read_conversations` does.
    """
    count, characters, refused = 0, 0, list[Refused]()
    for file in inputs.files:
        for conversation in read_conversations(file, on_bad=inputs.on_bad, refused=refused):
            count += 1
            characters += _characters(conversation)
    return Extent(count, characters, refused)


def score_key(inputs: Inputs, runs: Sequence[RunRecord], compute_dtype: str) -> dict[str, Any]:
    """Returns what the scores depend on, as JSON values: files, checkpoints, tokenizer and settings.

    Raises ValueError where two runs have different tokenizers.
    """
    if len({run.tokenizer.sha256 for run in runs}) > 1:
        raise ValueError(
            f"{runs[1].folder} has another tokenizer than {runs[0].folder}: their losses per token cannot be compared"
        )
    return {
        "format": _FORMAT,
        "shard": SHARD,
        "files": [[file.name, sha256(file)] for file in inputs.files],
        "on_bad": inputs.on_bad,
        "on_long": inputs.on_long,
        "sample": [inputs.sample, inputs.seed],
        "tokenizer_sha256": runs[0].tokenizer.sha256,
        "checkpoints": [
            [int(run.folder.name), hashlib.sha256((run.folder / CHECKSUMS).read_bytes()).hexdigest()] for run in runs
        ],
        "compute_dtype": compute_dtype,
    }


def score_conversations(
    inputs: Inputs,
    extent: Extent,
    runs: Sequence[LoadedRun],
    shards: ScoreShards,
    key: dict[str, Any],
    batch_tokens: int,
) -> None:
    """Scores all conversations under the first run, and their answers given the prompt under a second one if any.

    Shards that are done stay. Every process computes its part of each batch; process 0 writes. A conversation whose
    messages were there before is not scored again.

    Raises ValueError where the shards are of another key, or the chat template has no response header.
    """
    leader = jax.process_index() == 0
    done = int(from_first(str(together(lambda: shards.open(key) if leader else 0))))
    require_same("what is scored", json.dumps(key).encode())
    if leader and not done:
        shards.begin(key)
    models = _Models(
        runs[0].tokenizer,
        response_header(runs[0].tokenizer),
        [run.decoder for run in runs],
        min(run.model.max_seq_len for run in runs),
        batch_tokens,
    )
    count, characters = 0, 0
    with _progress(quiet=not leader) as progress:
        bar = progress.add_task("scoring", total=extent.characters)
        for number, (some, size) in enumerate(_windows(inputs, extent.conversations)):
            if number >= done:
                rows, texts = _rows(models, inputs.on_long, count, some)
                _score(models, texts, lambda share, begin=characters, size=size: progress.update(
                    bar, completed=begin + share * size
                ))  # fmt: skip
                if leader:
                    shards.write(number, rows)
            count, characters = count + len(some), characters + size
            progress.update(bar, completed=characters)
    if leader:
        problems = Counter(problem for problem in shards.columns(("problem",))["problem"].to_pylist() if problem)
        refused = Counter(one.kind for one in extent.refused)
        shards.finish({"conversations": count, "not_scored": dict(problems), "skipped_records": dict(refused)})


class _Models(NamedTuple):
    """What conversations are scored with; the second decoder, if any, is the tuned one."""

    tokenizer: Tokenizer
    header: np.ndarray
    decoders: Sequence[Decoder]
    max_seq_len: int
    batch_tokens: int


def _rows(
    models: _Models, on_long: Literal["cut", "drop"], first: int, some: Sequence[tuple[Conversation, bool]]
) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], Contexts]]]:
    """Returns the columns of some conversations, numbered from `first`, and of those to score the texts."""
    encoded = encode_conversations(models.tokenizer, [conversation.messages for conversation, _ in some])
    longest = models.max_seq_len + 1
    rows, texts = [], []
    for number, ((conversation, is_new), one) in enumerate(zip(some, encoded, strict=True), start=first):
        row = _columns(number, conversation)
        rows.append(row)
        cut = max(0, len(one.ids) - longest)
        if not is_new:
            row["problem"] = "duplicate"
        elif cut and on_long == "drop":
            row["problem"] = "too long"
        elif found := contexts(
            models.tokenizer, EncodedConversation(one.ids[:longest], one.loss_mask[:longest]), models.header
        ):
            row |= {"cut_tokens": cut, "cut_answer_tokens": int(one.loss_mask[longest:].sum())}
            texts.append((row, found))
        else:
            row["problem"] = "prompt too long" if cut else "no token in the answer"
    return rows, texts


def _score(
    models: _Models,
    texts: Sequence[tuple[dict[str, Any], Contexts]],
    advance: Callable[[float], object],
) -> None:
    """Adds the quantities to the rows that have texts; calls `advance` with the share that is done."""
    some = [one for _, one in texts]
    whole = sum(len(one.given_prompt) - 1 for one in some)
    apart = sum(len(text) - 1 for one in some for text in (*one.after_header, *one.alone))
    total, done = max(1, len(models.decoders) * whole + apart), 0

    def scorer(decoder: Decoder) -> Score:
        def spent(tokens: int) -> None:
            nonlocal done
            done += tokens
            advance(done / total)

        return partial(token_scores, decoder, batch_tokens=models.batch_tokens, advance=spent)

    base, *tuned = map(scorer, models.decoders)
    found = quantities(models.tokenizer, some, models.header, base, tuned[0] if tuned else None)
    for (row, _), one in zip(texts, found, strict=True):
        row.update(one._asdict())


def _columns(number: int, conversation: Conversation) -> dict[str, Any]:
    texts = [message.content for message in conversation.messages]
    text_bytes, zlib_bytes = compressed_bytes(texts)
    return {
        "number": number,
        **{name: getattr(conversation, name) for name in ("where", "id", "dataset", "task", "lang")},
        "quality": conversation.metadata.get("score"),
        "turns": sum(message.role == "assistant" for message in conversation.messages),
        "text_bytes": text_bytes,
        "zlib_bytes": zlib_bytes,
        "messages": [message._asdict() for message in conversation.messages],
    }


def _progress(*, quiet: bool) -> Progress:
    """Returns a bar with the time left."""
    title, left = TextColumn("{task.description}"), TextColumn("left")
    return Progress(
        title,
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        left,
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=quiet),
        transient=True,
    )


def _windows(inputs: Inputs, count: int) -> Iterator[tuple[list[tuple[Conversation, bool]], int]]:
    """Yields the conversations of a shard, and the characters that were read for it.

    Each is with whether its messages were not there before. `count` conversations are in the files.
    """
    seen, key = SeenIds(), hash64(inputs.seed, "sample")
    some, characters = list[tuple[Conversation, bool]](), 0
    every = (one for file in inputs.files for one in read_conversations(file, on_bad=inputs.on_bad))
    for number, conversation in enumerate(every):
        characters += _characters(conversation)
        if inputs.sample is not None and permute(number, count, key) >= inputs.sample:
            continue
        some.append((conversation, seen.add("", json.dumps(conversation.messages))))
        if len(some) == SHARD:
            yield some, characters
            some, characters = [], 0
    if some:
        yield some, characters


def _characters(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)
