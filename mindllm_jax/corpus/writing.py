"""Writes documents as files whose bytes depend on the documents alone."""

from __future__ import annotations

import gzip
from typing import Any, BinaryIO

from datatrove.io import DataFolderLike, OutputFileManager
from datatrove.pipeline.writers.jsonl import JsonlWriter


class WriteDocuments(JsonlWriter):
    """Writes `LANG/SOURCE/RANK.jsonl.gz`, without the time and the name that gzip puts in front.

    A token store knows its inputs by their checksums, so the same corpus cleaned elsewhere is the same input.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__(folder, "${lang}/${source}/${rank}.jsonl.gz", compression=None, expand_metadata=True)
        self.output_mg = _GzipFiles(self.output_folder)


class _GzipFiles(OutputFileManager):
    def get_file(self, filename: str) -> Any:
        """Opens the file if it is not open yet."""
        if filename not in self._output_files:
            self._output_files[filename] = _GzipFile(self.fs.open(filename, mode="wb"))
        return self._output_files[filename]


class _GzipFile(gzip.GzipFile):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__("", "wb", fileobj=file, mtime=0)
        self._file = file

    def close(self) -> None:
        """Closes the file below, too."""
        super().close()
        self._file.close()
