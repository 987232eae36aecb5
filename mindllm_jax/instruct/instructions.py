"""Packs instruction files into rows, once for a run, and keeps the rows in its folder."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from mindllm_jax.batching.chat_format import EncodedConversation, encode_conversations
from mindllm_jax.checks import require_at_least, require_local, require_seed, suggestion
from mindllm_jax.files import sha256, write_bytes
from mindllm_jax.instruct.conversations import Conversation, read_conversations
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.instruct.reading.records import instruction_files
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.text.documents import held_out
from mindllm_jax.tokenization.tokenizer import Tokenizer

# Incremented when the same files and settings give other rows, so that stored rows are packed again.
_FORMAT = 6

_ARRAYS = ("ids", "loss_mask", "conversations", "rows")  # of `PackedRows`, as they are stored

_ENCODED_AT_ONCE = 1000  # conversations: enough for all cores, little memory as Python lists


@dataclass(frozen=True)
class Instructions:
    """Settings of the conversations that a run is tuned on.

    Attributes:
        inputs: files of conversations in the shapes that `instruct.conversations` reads, or folders of them.
        held_out_inputs: files of held-out conversations.
        held_out: without `held_out_inputs`, the held-out fraction of `inputs`, by the hash of their ids. Either way a
            conversation whose question is held out is not trained on: the same first question of the user, or the same
            id where it is the hash of a question, as that of `launch/prepare_instructions.py` in all set-ups.
        sequence_length: T, the tokens of a row.
        on_bad: "error" raises on a malformed record, "skip" skips and counts it.
        on_long: a conversation longer than a row: "cut" its end, or "drop" it.
        lengths: fewest and most tokens of a conversation that is trained on, by dataset; held-out ones are all kept.
        weights: of datasets. Without them a dataset has the share of its rows; `{"law": 2.0}` doubles its weight. A
            dataset of weight 0 is held out alone.
        seed: decides the packing and the order of the rows.
    """

    inputs: tuple[str, ...]
    held_out_inputs: tuple[str, ...] = ()
    held_out: float = 0.02
    sequence_length: int = 512
    on_bad: Literal["error", "skip"] = "error"
    on_long: Literal["cut", "drop"] = "cut"
    lengths: dict[str, tuple[int, int]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"Instructions.held_out must be at least 0 and below 1, not {self.held_out}")
        require_at_least(self, 2, "sequence_length")
        require_seed(self, "seed")
        require_local(self, "inputs", "held_out_inputs")
        for name, (least, most) in self.lengths.items():
            if not 0 <= least <= most:
                raise ValueError(
                    f"Instructions.lengths[{name!r}] = {(least, most)}: must be a least and a greatest length"
                )
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"Instructions.weights[{name!r}] = {weight}: must be 0 or more")


class PackedInstructions(NamedTuple):
    """Rows of both sides of the split.

    Attributes:
        train: rows of the training side, by dataset; a row is of one dataset.
        held_out: rows of the held-out side, by dataset, perhaps none.
        key: files, tokenizer and settings of the rows, as JSON values.
        counts: numbers of cut conversations and of skipped lines or conversations, by reason.
        kept: whether the rows were loaded from the file of an earlier packing.
    """

    train: dict[str, PackedRows]
    held_out: dict[str, PackedRows]
    key: dict[str, Any]
    counts: dict[str, int]
    kept: bool = False


def pack_instructions(config: Instructions, tokenizer: Tokenizer, store: Path) -> PackedInstructions:
    """Loads the packed rows from the .npz file `store` if its key matches, or packs the files; writes nothing.

    Raises:
        OSError: an input is missing.
        ValueError: an input is malformed, or nothing is left to train on.
    """
    sides = {"train": instruction_files(config.inputs)}
    sides["held_out"] = instruction_files(config.held_out_inputs) if config.held_out_inputs else []
    key = _key(config, tokenizer, sides)
    return _load(store, key, tokenizer.pad_id) or _pack(config, tokenizer, sides, key)


def keep_instructions(packed: PackedInstructions, store: Path) -> None:
    """Writes the rows to the .npz file `store`, unless they came from it. Raises OSError when it cannot."""
    if packed.kept:
        return
    content = io.BytesIO()
    sides = {"train": packed.train, "held_out": packed.held_out}
    arrays = {
        f"{side}/{number}/{name}": getattr(rows, name)
        for side, datasets in sides.items()
        for number, rows in enumerate(datasets.values())
        for name in _ARRAYS
    }
    names = {side: list(datasets) for side, datasets in sides.items()}
    records = {"key": packed.key, "counts": packed.counts, "datasets": names}
    np.savez(content, **{name: json.dumps(value) for name, value in records.items()}, **arrays)
    write_bytes(store, content.getvalue())


def instructions_table(packed: PackedInstructions, global_batch_size: int, weights: Mapping[str, float]) -> Table:
    """Tabulates conversations, tokens and rows of each dataset on both sides, and counts of skipped ones.

    weights: `Instructions.weights`; a dataset of weight 0 is no part of an epoch.
    """
    rows: list[list[Cell]] = []
    for side, datasets in (("train", packed.train), ("held out", packed.held_out)):
        for name, packed_rows in datasets.items():
            places = len(packed_rows) * packed_rows.sequence_length
            count, tokens = len(packed_rows.conversations) - 1, len(packed_rows.ids)
            answers, filled = int(packed_rows.loss_mask.sum()), (tokens - count) / places
            rows.append([side, name, count, tokens, answers, len(packed_rows), f"{filled:.1%}"])
    read = [len(packed_rows) for name, packed_rows in packed.train.items() if weights.get(name, 1.0)]
    notes = [f"an epoch is {sum(read) / global_batch_size:.1f} steps"]
    notes += [f"{count} {reason}" for reason, count in sorted(packed.counts.items())]
    columns = ("instructions", "dataset", "conversations", "tokens", "answer tokens", "rows", "filled")
    return Table(columns, rows, "; ".join(notes))


def _pack(
    config: Instructions, tokenizer: Tokenizer, sides: dict[str, list[Path]], key: dict[str, Any]
) -> PackedInstructions:
    split: dict[str, dict[str, list[EncodedConversation]]] = {"train": {}, "held_out": {}}
    counts = Counter[str]()
    read = {side: {file: _read(file, config, counts) for file in files} for side, files in sides.items()}
    _require_known(config, {one.dataset for some in read["train"].values() for one in some})
    sided = [
        (file, [(side == "held_out" or _is_held_out(one, config), one) for one in some])
        for side, files in read.items()
        for file, some in files.items()
    ]
    measured = {name for _, some in sided for is_held_out, one in some if is_held_out for name in _question(one)}
    for file, some in sided:
        apart = [(is_held_out, one) for is_held_out, one in some if is_held_out or measured.isdisjoint(_question(one))]
        if len(apart) < len(some):
            counts["conversations left out (their question is held out)"] += len(some) - len(apart)
        for is_held_out, dataset, encoded in _encoded(file, apart, config, tokenizer, counts):
            split["held_out" if is_held_out else "train"].setdefault(dataset, []).append(encoded)
    if not any(config.weights.get(dataset, 1.0) for dataset in split["train"]):
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "all are held out"
        raise ValueError(f"Instructions.inputs leave no conversation to train on: {reasons}")

    def pack(side: str) -> dict[str, PackedRows]:
        return {
            dataset: PackedRows.pack(
                some, sequence_length=config.sequence_length, pad_id=tokenizer.pad_id, seed=config.seed
            )
            for dataset, some in sorted(split[side].items())
        }

    return PackedInstructions(pack("train"), pack("held_out"), key, dict(counts))


def _require_known(config: Instructions, datasets: Collection[str]) -> None:
    """Raises ValueError for a setting by dataset that names none of the inputs."""
    for setting, names in (("lengths", config.lengths), ("weights", config.weights)):
        for name in names:
            if name not in datasets:
                known = suggestion(name, datasets) or f"; there are {', '.join(sorted(datasets))}"
                raise ValueError(f"Instructions.{setting} names {name!r}, which is no dataset of the inputs{known}")


def _read(file: Path, config: Instructions, counts: Counter[str]) -> list[Conversation]:
    """Returns the conversations of a file; adds to `counts` those left out."""
    skipped = Counter[str]()
    read = list(read_conversations(file, on_bad=config.on_bad, skipped=skipped))
    counts.update({f"lines left out ({reason})": count for reason, count in skipped.items()})
    return read


def _question(conversation: Conversation) -> set[str]:
    """Returns what identifies a question: what the user says before the first answer, and an id that is its hash."""
    asked = takewhile(lambda message: message.role != "assistant", conversation.messages)
    text = "\n".join(message.content for message in asked if message.role == "user")
    return {text, conversation.id} if re.fullmatch("[0-9a-f]{16}", conversation.id) else {text}


def _is_held_out(conversation: Conversation, config: Instructions) -> bool:
    """Returns whether a conversation of `inputs` is held out."""
    return not config.held_out_inputs and held_out(conversation.id, config.held_out)


def _encoded(
    file: Path,
    read: Sequence[tuple[bool, Conversation]],
    config: Instructions,
    tokenizer: Tokenizer,
    counts: Counter[str],
) -> Iterator[tuple[bool, str, EncodedConversation]]:
    """Yields the conversations of a file, none longer than a row; adds to `counts`.

    read: whether a conversation is held out, and the conversation. Yields the same, its dataset, and its ids.
    """
    longest = config.sequence_length + 1  # a row of T tokens has T + 1 ids, the last of them only as a target
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    starts = range(0, len(read), _ENCODED_AT_ONCE)
    for start in track(starts, escape(f"reading {file.name}"), console=console, transient=True):
        some = read[start : start + _ENCODED_AT_ONCE]
        encoded = encode_conversations(tokenizer, [conversation.messages for _, conversation in some])
        for (is_held_out, conversation), (ids, loss_mask) in zip(some, encoded, strict=True):
            least, most = config.lengths.get(conversation.dataset, (0, math.inf))
            if not is_held_out and not least <= len(ids) <= most:
                counts["conversations left out (outside Instructions.lengths)"] += 1
                continue
            if len(ids) > longest:
                if config.on_long == "drop" or not loss_mask[:longest].any():
                    counts["conversations left out (too long)"] += 1
                    continue
                counts["conversations cut"] += 1
            yield is_held_out, conversation.dataset, EncodedConversation(ids[:longest], loss_mask[:longest])


def _key(config: Instructions, tokenizer: Tokenizer, sides: dict[str, list[Path]]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "tokenizer_sha256": tokenizer.sha256,
        "files": {side: [[file.name, sha256(file)] for file in files] for side, files in sides.items()},
        "held_out": config.held_out,
        "sequence_length": config.sequence_length,
        "on_bad": config.on_bad,
        "on_long": config.on_long,
        "lengths": {name: list(lengths) for name, lengths in config.lengths.items()},
        "weights": config.weights,
        "seed": config.seed,
    }


def _load(path: Path, key: dict[str, Any], pad_id: int) -> PackedInstructions | None:
    """Loads the stored rows; None where they are missing, of another key, or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if json.loads(str(stored["key"])) != key:
                return None
            train, held_out_rows = (
                {
                    dataset: PackedRows(
                        *(stored[f"{side}/{number}/{name}"] for name in _ARRAYS),
                        sequence_length=key["sequence_length"],
                        pad_id=pad_id,
                    )
                    for number, dataset in enumerate(datasets)
                }
                for side, datasets in json.loads(str(stored["datasets"])).items()
            )
            return PackedInstructions(train, held_out_rows, key, json.loads(str(stored["counts"])), kept=True)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
