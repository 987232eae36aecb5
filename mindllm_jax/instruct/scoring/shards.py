"""Scores on disk: parquet files of so many conversations each, in the order of the inputs, with a key.

A file is written whole or not at all, so an interrupted command resumes behind the last one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindllm_jax.files import read_json, write_bytes, write_text
from mindllm_jax.instruct.scoring.quantities import Quantities
from mindllm_jax.run_records import differences

if TYPE_CHECKING:
    import pyarrow

TEXTS = ("where", "id", "dataset", "task", "lang", "problem")
"""Columns of text; `problem` is why a conversation was not scored, null for those that were."""

_COUNTS = ("number", "turns", "cut_tokens", "cut_answer_tokens", "text_bytes", "zlib_bytes", "whole_tokens",
           "whole_bytes", "answer_tokens", "answer_bytes", "alone_tokens")  # fmt: skip
_SUMS = ("quality", "whole_nll", "answer_nll", "answer_entropy", "end_nll", "header_nll", "alone_nll", "tuned_nll",
         "tuned_entropy")  # fmt: skip
NUMBERS = (*_COUNTS, *_SUMS)
"""Columns of numbers: `number` in the order of the inputs, counts, sums in nats, and `quality`, the record's score."""

assert set(Quantities._fields) <= set(NUMBERS)


class ScoreShards:
    """The shards of a folder.

    Args:
        folder: gets `key.json`, `NUMBER.parquet` and, at the end, `summary.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, key: Mapping[str, Any]) -> int:
        """Returns the number of shards that are done; writes nothing.

        Raises ValueError, with the differences, where the shards are of another key.
        """
        path = self.folder / "key.json"
        if not path.exists():
            return 0
        changed = differences(read_json(path), json.loads(json.dumps(key)))
        if changed:
            listing = "\n  ".join(changed)
            raise ValueError(
                f"{self.folder} holds scores of other inputs, models or settings:\n  {listing}\n"
                "take another --workdir, or remove the folder to score again"
            )
        return len(self.paths())

    def begin(self, key: Mapping[str, Any]) -> None:
        """Writes the key, before the first shard."""
        write_text(self.folder / "key.json", json.dumps(key, indent=1, ensure_ascii=False) + "\n")

    def write(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a shard: an object with the columns per conversation, and its `messages`."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        content = io.BytesIO()
        parquet.write_table(arrow.Table.from_pylist(list(rows), _schema()), content, compression="zstd")
        write_bytes(self._path(number), content.getvalue())

    def paths(self) -> list[Path]:
        """Lists the shards up to the first that is missing."""
        found = []
        while (path := self._path(len(found))).exists():
            found.append(path)
        return found

    def columns(self, names: Sequence[str] = (*TEXTS, *NUMBERS)) -> pyarrow.Table:
        """Reads columns of all conversations. Raises ValueError that names a damaged shard."""
        import pyarrow as arrow

        parts = [table.select(list(names)) for table in self._tables(names)]
        return arrow.concat_tables(parts) if parts else _schema().empty_table().select(list(names))

    def messages(self) -> Iterator[tuple[int, list[dict[str, str]]]]:
        """Yields number and messages of each conversation, a shard in memory at a time."""
        for table in self._tables(("number", "messages")):
            yield from zip(table["number"].to_pylist(), table["messages"].to_pylist(), strict=True)

    def is_finished(self) -> bool:
        """Whether all is scored, and no shard was removed since, as one that was damaged."""
        summary = self.folder / "summary.json"
        if not summary.exists():
            return False
        of_each = read_json(self.folder / "key.json")["shard"]
        return len(self.paths()) == -(-read_json(summary)["conversations"] // of_each)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary, which says that all is scored."""
        write_text(self.folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.parquet"

    def _tables(self, names: Sequence[str]) -> Iterator[pyarrow.Table]:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        for path in self.paths():
            try:
                yield parquet.read_table(path, columns=list(names), schema=_schema())
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}); remove it and those after it, and score again"
                ) from None


def _schema() -> pyarrow.Schema:
    import pyarrow as arrow

    message = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    return arrow.schema(
        [
            *((name, arrow.int64()) for name in _COUNTS),
            *((name, arrow.string()) for name in TEXTS),
            *((name, arrow.float64()) for name in _SUMS),
            ("messages", arrow.list_(message)),
        ]
    )
