"""Removes lines that a site repeats, and paragraphs that several documents have.

Boilerplate is a run of lines that many documents of the same site have, as the paper removes repeated consecutive
phrases after counting phrases by site. A long paragraph is kept in the first document that has it, whatever its site.

Three steps: `CountLines` writes hashes by partition, `FindRepeats` reads one partition of all shards at a time, so it
needs the memory of a partition, and `DropRepeats` removes the lines.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter, rules_source
from mindllm_jax.corpus.filters.format import fenced
from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.settings import Repeats

# The second half of a record is written as one number, site above document.
_RECORD = np.dtype([("hash", "<u8"), ("document", "<u4"), ("site", "<u4")])
_COPY = np.dtype([("document", "<u4"), ("hash", "<u8")])
_DIGITS = re.compile(r"\d+")
_UNDERLINE = re.compile(r"[=~^-]{3,}")


def site_of(document: Document) -> str:
    """Returns the site that a document's lines are counted for: the host of its address, else its source."""
    address = re.match(r"\w+://(?:[^/@]*@)?([^/:]+)", str(document.metadata.get("url", "")))
    return address[1].lower().removeprefix("www.") if address else rules_source(document)


def line_hash(site: str, line: str) -> int:
    """Hashes a line of a site without its numbers: page 3 of 7 is as much boilerplate as page 4."""
    return xxhash.xxh64_intdigest(f"{site}\n{_DIGITS.sub('0', line.strip())}".encode())


def paragraph_hash(line: str) -> int:
    """Hashes a paragraph without the white space around it."""
    return xxhash.xxh64_intdigest(line.strip().encode())


class CountLines(PipelineStep):
    """Writes the hashes of a shard's lines and long paragraphs, each once per document.

    Args:
        folder: gets `lines/PART/RANK.npy`, `paragraphs/PART/RANK.npy` and `sites/RANK.json`, the documents by site.
        config: settings.
    """

    type = "🫂 - DEDUP"
    name = "Count lines"

    def __init__(self, folder: DataFolderLike, config: Repeats) -> None:
        super().__init__()
        self.folder, self.config = get_datafolder(folder), config

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> None:
        """Reads a shard."""
        sites: Counter[str] = Counter()
        lines, paragraphs = array("Q"), array("Q")
        for number, document in enumerate(data or ()):
            with self.track_time():
                if rules_source(document) in self.config.keep_sources:
                    continue
                site = site_of(document)
                sites[site] += 1
                place = xxhash.xxh32_intdigest(site.encode()) << 32 | number
                text_lines = list(filter(str.strip, document.text.split("\n")))
                for hash in {line_hash(site, line) for line in text_lines}:
                    lines.extend((hash, place))
                if self.config.min_paragraph_chars:
                    for hash in {
                        paragraph_hash(line) for line in text_lines if len(line) >= self.config.min_paragraph_chars
                    }:
                        paragraphs.extend((hash, place))
        with self.track_time():
            for kind, records in (("lines", lines), ("paragraphs", paragraphs)):
                _write_parts(self.folder, kind, rank, np.frombuffer(records, _RECORD), self.config.partitions)
            with self.folder.open(f"sites/{rank:05d}.json", "w") as file:
                json.dump(sites, file)


class FindRepeats(PipelineStep):
    """Finds the repeated lines and paragraphs of one partition per task.

    Args:
        counted: the folder of `CountLines`.
        folder: gets `lines/PART.npy`, the hashes of boilerplate, and `paragraphs/SHARD/PART.npy`, the copies to remove.
        config: settings.
    """

    type = "🫂 - DEDUP"
    name = "Find repeats"

    def __init__(self, counted: DataFolderLike, folder: DataFolderLike, config: Repeats) -> None:
        super().__init__()
        self.counted, self.folder, self.config = get_datafolder(counted), get_datafolder(folder), config

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Reads the partition `rank`."""
        with self.track_time():
            sites: Counter[int] = Counter()
            for name in self.counted.list_files("sites"):
                with self.counted.open(name) as file:
                    for site, documents in json.load(file).items():
                        sites[xxhash.xxh32_intdigest(site.encode())] += documents
            records, _ = _read_part(self.counted, "lines", rank)
            hashes, first, counts = np.unique(records["hash"], return_index=True, return_counts=True)
            of_site = np.array([sites[int(site)] for site in records["site"][first]], np.int64)
            least = np.maximum(self.config.min_site_documents, np.ceil(self.config.min_site_share * of_site))
            with self.folder.open(f"lines/{rank:05d}.npy", "wb") as file:
                np.save(file, hashes[counts >= least], allow_pickle=False)
            records, shards = _read_part(self.counted, "paragraphs", rank)
            order = np.lexsort((records["document"], shards, records["hash"]))
            records, shards = records[order], shards[order]
            copied = np.zeros(len(records), np.bool_)
            copied[1:] = records["hash"][1:] == records["hash"][:-1]
            for shard in np.unique(shards[copied]):
                copies = records[copied & (shards == shard)]
                with self.folder.open(f"paragraphs/{int(shard):05d}/{rank:05d}.npy", "wb") as file:
                    np.save(file, copies[["document", "hash"]].astype(_COPY), allow_pickle=False)


class DropRepeats(CleaningFilter):
    """Removes the lines that `FindRepeats` found; drops a document that is mostly copied or has no text left.

    It holds the hashes of all boilerplate (8 bytes each) and of the copies of its shard. It must see the documents of
    the shard as `CountLines` did.
    """

    name = "Drop repeats"

    def __init__(self, folder: DataFolderLike, config: Repeats, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.folder, self.config = get_datafolder(folder), config
        self._boilerplate = np.zeros(0, np.uint64)
        self._copies: dict[int, set[int]] = {}

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        parts = [_load(self.folder, name) for name in self.folder.list_files("lines")]
        self._boilerplate = np.unique(np.concatenate([*parts, np.zeros(0, np.uint64)]))
        if self.folder.exists(f"paragraphs/{rank:05d}"):
            for name in self.folder.list_files(f"paragraphs/{rank:05d}"):
                for number, hash in _load(self.folder, name).tolist():
                    self._copies.setdefault(number, set()).add(hash)
        yield from super().run(self._numbered(data), rank, world_size)

    def _numbered(self, data: Iterable[Document] | None) -> Iterator[Document]:
        for self._number, document in enumerate(data or ()):
            yield document

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        if rules_source(document) in self.config.keep_sources:
            return None
        lines = document.text.split("\n")
        removable = _removable(document.text, lines)
        copied = self._copied(lines, removable)
        boilerplate = self._boilerplate_in(lines, removable, site_of(document)) - copied
        if not copied and not boilerplate:
            return None
        size = sum(len(lines[number].encode()) + 1 for number in copied | boilerplate)
        record(self, document.metadata["source"], "changed", "repeated lines", bytes=size)
        without_boilerplate = len(document.text) - sum(len(lines[number]) for number in boilerplate)
        if sum(len(lines[number]) for number in copied) > self.config.max_copied_share * without_boilerplate:
            return "mostly copied paragraphs"
        left = [line for number, line in enumerate(lines) if number not in copied | boilerplate]
        parts = fenced("\n".join(left))
        document.text = "".join(part if is_code else re.sub(r"\n{3,}", "\n\n", part) for part, is_code in parts).strip()
        return None if document.text else "only repeated lines"

    def _copied(self, lines: list[str], removable: list[bool]) -> set[int]:
        """Returns the numbers of the lines that are paragraphs of other documents."""
        if not (copies := self._copies.get(self._number)):
            return set()
        long = (n for n, line in enumerate(lines) if removable[n] and len(line) >= self.config.min_paragraph_chars)
        return {number for number in long if paragraph_hash(lines[number]) in copies}

    def _boilerplate_in(self, lines: list[str], removable: list[bool], site: str) -> set[int]:
        """Returns the numbers of the lines in runs of boilerplate."""
        if not len(self._boilerplate):
            return set()
        each = (line_hash(site, line) if flag else 0 for line, flag in zip(lines, removable, strict=True))
        hashes = np.fromiter(each, np.uint64, len(lines))
        places = np.minimum(np.searchsorted(self._boilerplate, hashes), len(self._boilerplate) - 1)
        frequent = ((self._boilerplate[places] == hashes) & removable).tolist()
        removed: set[int] = set()
        for run in _runs(frequent, [not line.strip() for line in lines]):
            run = _without_beginning_of_text(run, lines)
            words = [lines[number].strip() for number in run if _has_words(lines[number])]
            if len(words) >= self.config.min_run_lines or any(
                len(line) >= self.config.min_lone_chars for line in words
            ):
                removed.update(run)
        return removed


def _removable(text: str, lines: list[str]) -> list[bool]:
    """Returns which lines may be removed: not blank ones, code, or a heading above everything.

    Lines of code are alike everywhere, and without its closing fence code would include the text after it.
    """
    flags = [bool(line.strip()) for line in lines]
    if True in flags and lines[flags.index(True)].startswith("#"):
        flags[flags.index(True)] = False
    number = 0
    for part, is_code in fenced(text):
        last = number + part.count("\n")
        if is_code:
            flags[number : last + 1] = [False] * (last + 1 - number)
        number = last
    return flags


def _has_words(line: str) -> bool:
    """Whether a line may be boilerplate by itself: rules, brackets and headings are removed with other lines only."""
    return not line.startswith("#") and any(map(str.isalpha, line))


def _without_beginning_of_text(run: list[int], lines: list[str]) -> list[int]:
    """Returns a run without a heading of the text after it and without the first words of a sentence in the text."""
    end = len(run)
    while end:
        number = run[end - 1]
        if _UNDERLINE.fullmatch(lines[number].strip()) and end > 1 and run[end - 2] == number - 1:
            end -= 2
        elif lines[number].startswith("#"):
            end -= 1
        else:
            break
    # At most one line: those before it may be a menu in lower case.
    continued = end > 0 and "".join(lines[run[end - 1] + 1 : run[end - 1] + 2]).lstrip()[:1].islower()
    return run[: end - continued]


def _runs(frequent: list[bool], blank: list[bool]) -> list[list[int]]:
    """Returns the numbers of the lines in each run of frequent lines; blank lines do not end a run."""
    runs: list[list[int]] = [[]]
    for number, (is_frequent, is_blank) in enumerate(zip(frequent, blank, strict=True)):
        if is_frequent:
            runs[-1].append(number)
        elif not is_blank and runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _write_parts(folder: DataFolder, kind: str, rank: int, records: np.ndarray, partitions: int) -> None:
    parts = records["hash"] % np.uint64(partitions)
    for part in range(partitions):
        with folder.open(f"{kind}/{part:05d}/{rank:05d}.npy", "wb") as file:
            np.save(file, records[parts == part], allow_pickle=False)


def _read_part(folder: DataFolder, kind: str, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the records of a partition in all shards, and the shard of each."""
    names = folder.list_files(f"{kind}/{part:05d}")
    records = [_load(folder, name) for name in names]
    shards = [np.full(len(part), int(name[-9:-4]), np.uint32) for name, part in zip(names, records, strict=True)]
    return np.concatenate([*records, np.zeros(0, _RECORD)]), np.concatenate([*shards, np.zeros(0, np.uint32)])


def _load(folder: DataFolder, name: str) -> np.ndarray:
    with folder.open(name, "rb") as file:
        return np.load(file, allow_pickle=False)
