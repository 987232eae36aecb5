"""Position of a run in its training data, and whether it can resume from there.

The position is the state of the run's Grain iterator (`GlobalBatches.get_state`): the number of rows read. Orbax stores
it once for the run, in `run/metadata` of the checkpoint. Grain's own Orbax handler would store the same number once for
each process, under a name with the number of processes, and refuses to restore it on another number of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.hashing import hash64
from mindllm_jax.rows import TrainingRows
from mindllm_jax.run_records import differences

_SAME = ("tokenizer_sha256", "data", "seed", "base", "adapters")  # of a run's identity: must not change on resume
_SHOWN = 8  # differences that a message lists
_SAMPLED = 256  # number of rows whose places are compared
_OF_READING = re.compile(r"\w+\.(data|instructions|replay)\.")
_OF_READING_AND_LENGTH = re.compile(r"\w+\.(data|instructions|replay|loop\.steps|loop\.global_batch_size)\b")


class Position(NamedTuple):
    """Rows and tokens that a run has read; stored with each checkpoint."""

    rows: int = 0  # the number of the next row
    tokens: int = 0  # of the rows read, padding included

    def at(self, rows: int, length: int) -> Position:
        """Returns the position with `rows` rows read, of which those after this position have `length` tokens each."""
        return Position(rows, self.tokens + (rows - self.rows) * length)


def fingerprint(rows: TrainingRows, count: int) -> str:
    """Returns a hash of the places of the first `count` rows, over a sample of them and the last one."""
    sampled = {hash64("sample", number) % count for number in range(_SAMPLED)} | {count - 1} if count else set()
    places = rows.places(np.array(sorted(sampled), np.int64))
    return hashlib.sha256(json.dumps([rows.sequence_length, places]).encode()).hexdigest()


def require_same_identity(stored: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raises ValueError where a run has another tokenizer, seed, base or data than its checkpoint.

    Sources that one of the two alone reads are left to `require_same_past`: they may be of later rows.

    stored, now, where: as there.
    """
    before, after = ({key: of.get(key) for key in _SAME} for of in (stored, now))
    if changed := differences(_with_shared_sources(before, after), _with_shared_sources(after, before)):
        more = f"\n  and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        listing = "\n  ".join(changed[:_SHOWN]) + more
        raise ValueError(
            f"{where}: the checkpoint does not match this run:\n  {listing}\n"
            "use its data, tokenizer, base and seed, or another --workdir"
        )


def _with_shared_sources(identity: Any, other: Any) -> Any:
    """Returns an identity without the records of sources, which tell a language, that the other one does not read."""
    if not (isinstance(identity, dict) and isinstance(other, dict)):
        return identity
    return {
        name: _with_shared_sources(value, other.get(name))
        for name, value in identity.items()
        if name in other or not (isinstance(value, dict) and "language" in value)
    }


def require_same_past(
    rows: TrainingRows, position: Position, stored: Mapping[str, Any], now: Mapping[str, Any], where: str
) -> None:
    """Raises ValueError where the data order up to the checkpoint differs under the present settings.

    The resumed run would read some text twice and other text never. Settings that change later rows alone are
    accepted.

    stored: the identity in the checkpoint, with its `fingerprint`. now: the identity of the resumed run. where: the
    checkpoint, for the message.
    """
    if stored["fingerprint"] == fingerprint(rows, position.rows):
        return
    reading = _OF_READING if rows.planned_rows is None else _OF_READING_AND_LENGTH
    lines = differences(dict(stored), dict(now))
    changed = [line for line in lines if reading.match(line)] or [
        _source(line) for line in lines if line.startswith("data.")
    ]
    listing = "\n  ".join(changed) or "(no setting: this version of the program lays out rows in another way)"
    raise ValueError(
        f"{where}: under the present settings the {position.rows:,} rows read so far would have been other rows, so "
        f"the run would read some text twice and other text never:\n  {listing}\n"
        "set these back, or start a new run in another --workdir"
    )


def _source(line: str) -> str:
    name, _, values = line.partition(": was ")
    return f"{name}: {'not read before' if values.startswith(repr('(absent)')) else 'not read any more'}"


def require_planned_length(rows: TrainingRows, position: Position, rows_left: int, where: str) -> None:
    """Raises ValueError where the data order is laid out for another number of rows than the resumed run reads."""
    if rows.planned_rows not in (None, position.rows + rows_left):
        raise ValueError(
            f"{where}: the stages, caps, blocks or chunks of the mixture are laid out over {rows.planned_rows:,} rows "
            f"(Loop.steps x Loop.global_batch_size), and with {position.rows:,} rows read the run would read "
            f"{position.rows + rows_left:,}: set Loop.global_batch_size back, or start a new run in another --workdir"
        )
