"""Reads back what an earlier stage wrote of a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.reading.records import BadFile
from mindllm_jax.corpus.reading.streams import SAMPLE_BYTES, unpacked


class ReadShard(PipelineStep):
    """Reads the documents in `RANK.jsonl.zst`; none where the earlier stage kept none of the shard.

    The reader of datatrove gives a task the file at its place among those that exist, which is another shard's behind
    one without documents, and ends at a file that was cut as at a whole one.

    Args:
        folder: of the files.

    Raises RuntimeError where the folder has no file, ValueError where one is cut or damaged.
    """

    type = "📖 - READER"
    name = "Shard"
    _requires_dependencies = ("orjson",)

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        import orjson

        name = f"{rank:05d}.jsonl.zst"
        if not self.folder.exists(name):
            if not self.folder.list_files(glob_pattern="*.jsonl.zst"):
                raise RuntimeError(f"No files found on {self.folder.path}")
            return
        done = 0
        try:
            with self.folder.open(name, "rb", compression=None) as file:
                head = file.read(SAMPLE_BYTES)
                if not head:
                    raise BadFile("cut", "it is empty")
                for line in unpacked(file, head):
                    document = Document(**orjson.loads(line))
                    self.update_doc_stats(document)
                    yield document
                    done += 1
        except (BadFile, orjson.JSONDecodeError) as error:
            raise ValueError(
                f"{self.folder.path}/{name} was damaged after line {done} ({error}): delete the folder of the corpus"
                " and clean it again"
            ) from None
