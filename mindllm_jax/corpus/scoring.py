"""Chooses clean documents by their bits per token under a small model: optional stages after those of the pipeline.

Bits per token of each document, then the borders of equal parts of each source, then the documents of each part.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.executors import PipelineStage, run_stages
from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.report.summary import Summary
from mindllm_jax.corpus.settings import CleanCorpus
from mindllm_jax.corpus.settings_record import check_or_write_settings
from mindllm_jax.corpus.writing import WriteDocuments
from mindllm_jax.locks import lock_folder

Scorer = Callable[[Iterable[str]], Iterator[float]]
"""Bits per token of each text, in their order."""

# Bits are stored in hundredths, 2 bytes per document, so that counting them is exact.
_PER_BIT, _MAX = 100, 65535


def score_corpus(config: CleanCorpus, load: Callable[[], Scorer]) -> bool:
    """Writes the chosen documents of a finished corpus to `Scoring.output`; returns whether that is finished.

    The bits are stored with the corpus: for another `Scoring.keep` and `Scoring.output` they are not computed again.

    Args:
        config: of the corpus. `Scoring.step` must be a number: a run that is still training must not change the scores.
        load: loads the model, once per task; it is sent to workers.

    Raises as `clean_corpus` does, and ValueError where the model's bits are not finite.
    """
    scoring = config.scoring
    if scoring.step is None:
        raise ValueError("Scoring.step is None; evaluation.perplexity.resolve_checkpoint sets the latest step")
    scored, output = Path(config.output) / "scored", Path(scoring.output)
    documents = sorted((Path(config.output) / "documents").rglob("*.jsonl.gz"))
    if not documents:
        raise ValueError(f"there are no documents to score in {config.output}/documents")
    if output.resolve() == Path(config.output).resolve():
        raise ValueError(
            f"Scoring.output = {output} is CleanCorpus.output: give the chosen documents a folder of their own"
        )
    model = {"run": scoring.run, "step": scoring.step, "max_tokens": scoring.max_tokens}
    user = "a command that cleans or scores it"
    with (
        lock_folder(Path(config.output), user=user, otherwise="set another CleanCorpus.output"),
        lock_folder(output, user=user, otherwise="set another Scoring.output"),
    ):
        check_or_write_settings(scored, model, "set Scoring.run, Scoring.step and Scoring.max_tokens to the old values")
        choice = {**model, "keep": scoring.keep, "documents": _identity(documents)}
        check_or_write_settings(output, choice, "set another Scoring.output")
        return run_stages([score_stage(config, load, len(documents))], scored / "logs", config.executor) and run_stages(
            choose_stages(config, len(documents)), output / "logs", config.executor
        )


def _identity(documents: list[Path]) -> str:
    """Returns a hash of the names of gzip files and of the checksums and sizes of their content, which gzip appends."""
    digest = hashlib.sha256()
    for path in documents:
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            digest.update("/".join(path.parts[-3:]).encode() + file.read())
    return digest.hexdigest()


def score_stage(config: CleanCorpus, load: Callable[[], Scorer], files: int) -> PipelineStage:
    """Returns the stage that scores the files of documents; each has one source in one language."""
    return PipelineStage("score", [_reader(config), Score(_bits(config), load)], files, model=True)


def choose_stages(config: CleanCorpus, files: int) -> list[PipelineStage]:
    """Returns the stages that choose documents by their scores."""
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    output, keep = Path(config.scoring.output), config.scoring.keep
    dropped = JsonlWriter(str(output / "dropped"), "score/${rank}.jsonl.gz") if config.keep_dropped else None
    choose = Choose(_bits(config), str(output), keep, dropped)
    steps = [_reader(config), choose, Summary(str(output / "summary")), WriteDocuments(str(output / "documents"))]
    return [
        PipelineStage("parts", [Parts(_bits(config), str(output), len(keep))], 1),
        PipelineStage("choose", steps, files),
    ]


def _bits(config: CleanCorpus) -> str:
    return f"{config.output}/scored/bits"


def _reader(config: CleanCorpus) -> Any:
    from datatrove.pipeline.readers import JsonlReader

    return JsonlReader(f"{config.output}/documents", glob_pattern="**/*.jsonl.gz", add_file_path=False)


class Score(PipelineStep):
    """Writes `RANK.npz` with the source and the hundredths of bits per token of each document, uint16."""

    type = "🔢 - SCORE"
    name = "Score"

    def __init__(self, folder: DataFolderLike, load: Callable[[], Scorer]) -> None:
        super().__init__()
        self.folder, self.load = get_datafolder(folder), load

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> None:
        """Reads a file."""
        sources: set[str] = set()

        def texts() -> Iterator[str]:
            for document in data or ():
                sources.add(_key(document))
                yield document.text

        with self.track_time():
            bits = np.fromiter(self.load()(texts()), np.float64)
            if len(sources) != 1:
                raise ValueError(f"documents file {rank} must hold one source in one language, not {sorted(sources)}")
            source = sources.pop()
            if not np.isfinite(bits).all():
                number = int(np.argmin(np.isfinite(bits))) + 1
                raise ValueError(
                    f"the model's bits for document {number} of file {rank} of {source} are not finite: set an earlier"
                    " Scoring.step or another Scoring.run"
                )
            with self.folder.open(f"{rank:05d}.npz", "wb") as file:
                np.savez(file, bits=np.minimum(np.rint(bits * _PER_BIT), _MAX).astype(np.uint16), source=source)


class Parts(PipelineStep):
    """Computes the borders of `count` equal parts of each source, in one task; takes 512 KiB per source.

    A document's rank is the middle of all documents with its bits, so the only document of a source is in the middle
    part. Writes `parts.json`: by `LANG/SOURCE` the borders, and the 10th, 50th and 90th percentile of the bits.
    """

    type = "🔢 - SCORE"
    name = "Parts"

    def __init__(self, bits: DataFolderLike, folder: DataFolderLike, count: int) -> None:
        super().__init__()
        self.bits, self.folder, self.count = get_datafolder(bits), get_datafolder(folder), count

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Reads all files of `Score`."""
        counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(_MAX + 1, np.int64))
        with self.track_time():
            for name in self.bits.list_files(glob_pattern="*.npz"):
                source, bits = _load(self.bits, name)
                counts[source] += np.bincount(bits, minlength=_MAX + 1)
            parts = {}
            for source, count in sorted(counts.items()):
                place = (np.cumsum(count) - count / 2) / count.sum()
                borders = np.searchsorted(place, np.arange(1, self.count) / self.count)
                quantiles = np.searchsorted(place, (0.1, 0.5, 0.9))
                parts[source] = {
                    "documents": int(count.sum()),
                    "borders": (borders / _PER_BIT).tolist(),
                    "quantiles": (quantiles / _PER_BIT).tolist(),
                }
            with self.folder.open("parts.json", "w") as file:
                json.dump(parts, file)


class Choose(CleaningFilter):
    """Keeps the share `keep` of each part of a source; writes a document's bits as `bits_per_token`.

    It must see the files as `Score` did.
    """

    name = "Choose by score"

    def __init__(
        self,
        bits: DataFolderLike,
        parts: DataFolderLike,
        keep: tuple[float, ...],
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer)
        self.bits, self.parts, self.keep = get_datafolder(bits), get_datafolder(parts), keep
        self._borders: dict[str, Any] = {}

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a file."""
        with self.parts.open("parts.json") as file:
            self._borders = json.load(file)
        _, bits = _load(self.bits, f"{rank:05d}.npz")
        yield from super().run(_with_bits(data or (), bits), rank, world_size)

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        borders = self._borders[_key(document)]["borders"]
        part = bisect_right(borders, document.metadata["bits_per_token"])
        if xxhash.xxh64_intdigest(document.id.encode()) / 2**64 < self.keep[part]:
            return None
        return f"bits per token, part {part + 1} of {len(self.keep)}"


def _with_bits(data: Iterable[Document], bits: np.ndarray) -> Iterator[Document]:
    for document, hundredths in zip(data, bits.tolist(), strict=True):
        document.metadata["bits_per_token"] = hundredths / _PER_BIT
        yield document


def _key(document: Document) -> str:
    return f"{document.metadata['lang']}/{document.metadata['source']}"


def _load(folder: DataFolder, name: str) -> tuple[str, np.ndarray]:
    with folder.open(name, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return str(arrays["source"]), arrays["bits"]
