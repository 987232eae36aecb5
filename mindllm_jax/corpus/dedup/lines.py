"""Removes lines that a site repeats, and drops documents that are mostly paragraphs of others.

Boilerplate is a run of lines that many documents of the same site have one after the other, as the paper removes
repeated consecutive phrases after counting phrases by site; `boilerplate.py` selects its lines. A document that is
mostly paragraphs of better or earlier documents, whatever their site, is dropped.

Three steps: `CountLines` writes hashes by partition, `FindRepeats` reads one partition of all shards at a time, so it
needs the memory of a partition, and `DropRepeats` removes the lines.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.dedup.batches import batches
from mindllm_jax.corpus.dedup.boilerplate import Lines, boilerplate, in_fences, split_lines
from mindllm_jax.corpus.dedup.damage import damage
from mindllm_jax.corpus.filters.base import CleaningFilter, rules_source
from mindllm_jax.corpus.filters.format import fenced
from mindllm_jax.corpus.filters.privacy import without_personal_data
from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.settings import Repeats
from mindllm_jax.text.ngrams import mix

# The second half of a record is written as one number, the group above the document. The group of a pair of lines is
# the hash of the site, and that of a paragraph the place of the source in the priorities.
_RECORD = np.dtype([("hash", "<u8"), ("document", "<u4"), ("group", "<u4")])
_COPY = np.dtype([("document", "<u4"), ("hash", "<u8")])
_DIGITS, _ZEROS, _TO_ZERO = re.compile(r"\d+"), re.compile(b"00+"), bytes.maketrans(b"123456789", b"000000000")
_EXAMPLE = 300
# In place of the line before the first and after the last. The factor is odd, so that a pair has an order.
_BEGIN, _END, _FACTOR = 1, 2, np.uint64(0x9E3779B97F4A7C15)


class _Page(NamedTuple):
    """A document's number in its shard, its lines, and whether each of their pairs is frequent, bool [n + 1]."""

    number: int
    lines: Lines
    frequent: np.ndarray


def site_of(document: Document) -> str:
    """Returns the site that a document's lines are counted for: the host of its address, else its source."""
    address = re.match(r"\w+://(?:[^/@]*@)?([^/:]+)", str(document.metadata.get("url", "")))
    return address[1].lower().removeprefix("www.") if address else rules_source(document)


def line_hashes(site: str, text: str, lines: Lines) -> list[int]:
    """Hashes the n counted lines of a text without its numbers: page 3 of 7 is as much boilerplate as page 4.

    The first and the last of the n + 2 hashes stand for the beginning and the end of the text.
    """
    numbered = _without_numbers(text).split("\n")
    each = [xxhash.xxh64_intdigest(f"{site}\n{numbered[number].strip()}".encode()) for number in lines.counted]
    return [_BEGIN, *each, _END]


def pair_hashes(hashes: list[int]) -> np.ndarray:
    """Hashes each pair of neighbouring lines: uint64 [n - 1] for the hashes of n lines."""
    each = np.array(hashes, np.uint64)
    return mix(each[:-1] * _FACTOR + each[1:])


def _without_numbers(text: str) -> str:
    """Returns a text with 0 in place of each number."""
    if text.isascii():  # a tenth of the time
        return _ZEROS.sub(b"0", text.encode().translate(_TO_ZERO)).decode()
    return _DIGITS.sub("0", text)


def paragraph_hash(line: str) -> int:
    """Hashes a paragraph without the white space around it."""
    return xxhash.xxh64_intdigest(line.strip().encode())


class CountLines(PipelineStep):
    """Writes the hashes of a shard's pairs of lines and long paragraphs, each once per document.

    Args:
        folder: gets `lines/PART/RANK.npy`, `paragraphs/PART/RANK.npy` and `sites/RANK.json`, the documents by site.
        config: settings.
        priorities: see `CleanCorpus.priorities`.
    """

    type = "🫂 - DEDUP"
    name = "Count lines"

    def __init__(self, folder: DataFolderLike, config: Repeats, priorities: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.folder, self.config, self.priorities = get_datafolder(folder), config, priorities

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> None:
        """Reads a shard."""
        priorities = {source: place for place, source in enumerate(self.priorities)}
        sites: Counter[str] = Counter()
        lines, paragraphs = array("Q"), array("Q")
        seen = 0
        for documents in batches(data or ()):
            with self.track_time():
                hashes: list[int] = []
                spans: list[tuple[int, int, int]] = []  # of the pairs of each document, with its site and number
                for number, document in enumerate(documents, seen):
                    if rules_source(document) in self.config.keep_sources:
                        continue
                    site, text_lines = site_of(document), split_lines(document.text)
                    sites[site] += 1
                    begin = len(hashes)
                    hashes += line_hashes(site, document.text, text_lines)
                    spans.append((begin, len(hashes) - 1, xxhash.xxh32_intdigest(site.encode()) << 32 | number))
                    if self.config.min_paragraph_chars:
                        place = priorities.get(rules_source(document), len(priorities)) << 32 | number
                        each = (text_lines.all[line] for line in text_lines.counted)
                        long = {paragraph_hash(line) for line in each if len(line) >= self.config.min_paragraph_chars}
                        paragraphs.extend(chain.from_iterable(zip(long, repeat(place))))
                pairs = pair_hashes(hashes).tolist()
                for begin, end, place in spans:
                    lines.extend(chain.from_iterable(zip(set(pairs[begin:end]), repeat(place))))
                seen += len(documents)
        with self.track_time():
            for kind, records in (("lines", lines), ("paragraphs", paragraphs)):
                _write_parts(self.folder, kind, rank, np.frombuffer(records, _RECORD), self.config.partitions)
            with self.folder.open(f"sites/{rank:05d}.json", "w") as file:
                json.dump(sites, file)


class FindRepeats(PipelineStep):
    """Finds the repeated lines and paragraphs of one partition per task.

    Args:
        counted: the folder of `CountLines`.
        folder: gets `lines/PART.npy`, the hashes of frequent pairs of lines, and `paragraphs/SHARD/PART.npy`, the
            paragraphs that a better or earlier document has.
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
            of_site = np.array([sites[int(site)] for site in records["group"][first]], np.int64)
            least = np.maximum(self.config.min_site_documents, np.ceil(self.config.min_site_share * of_site))
            with self.folder.open(f"lines/{rank:05d}.npy", "wb") as file:
                np.save(file, hashes[counts >= least], allow_pickle=False)
            records, shards = _read_part(self.counted, "paragraphs", rank)
            order = np.lexsort((records["document"], shards, records["group"], records["hash"]))
            records, shards = records[order], shards[order]
            copied = np.zeros(len(records), np.bool_)
            copied[1:] = records["hash"][1:] == records["hash"][:-1]
            for shard in np.unique(shards[copied]):
                copies = records[copied & (shards == shard)]
                with self.folder.open(f"paragraphs/{int(shard):05d}/{rank:05d}.npy", "wb") as file:
                    np.save(file, copies[["document", "hash"]].astype(_COPY), allow_pickle=False)


class DropRepeats(CleaningFilter):
    """Removes boilerplate; drops a document that is mostly copied paragraphs or has no text left.

    It holds the hashes of all frequent pairs (8 bytes each) and of the copies of its shard. It must see the documents
    of the shard as `CountLines` did.
    """

    name = "Drop repeats"

    def __init__(self, folder: DataFolderLike, config: Repeats, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.folder, self.config = get_datafolder(folder), config
        self._frequent = np.zeros(0, np.uint64)
        self._copies: dict[int, set[int]] = {}
        self._page = _Page(-1, Lines([], []), np.zeros(0, np.bool_))

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        parts = [_load(self.folder, name) for name in self.folder.list_files("lines")]
        self._frequent = np.unique(np.concatenate([*parts, np.zeros(0, np.uint64)]))
        if self.folder.exists(f"paragraphs/{rank:05d}"):
            for name in self.folder.list_files(f"paragraphs/{rank:05d}"):
                for number, hash in _load(self.folder, name).tolist():
                    self._copies.setdefault(number, set()).add(hash)
        yield from super().run(self._pages(data), rank, world_size)

    def _pages(self, data: Iterable[Document] | None) -> Iterator[Document]:
        """Yields documents, each with its lines in `_page`; the pairs of a batch are looked up in one operation."""
        seen = 0
        for documents in batches(data or ()):
            looked_at = [document for document in documents if rules_source(document) not in self.config.keep_sources]
            lines = [split_lines(document.text) for document in looked_at]
            hashes = [line_hashes(site_of(x), x.text, of_page) for x, of_page in zip(looked_at, lines, strict=True)]
            frequent = self._is_frequent(pair_hashes(list(chain.from_iterable(hashes))))
            waiting, end = iter(zip(lines, hashes, strict=True)), 0
            for number, document in enumerate(documents, seen):
                if rules_source(document) not in self.config.keep_sources:
                    of_page, each = next(waiting)
                    begin, end = end, end + len(each)
                    self._page = _Page(number, of_page, frequent[begin : end - 1])
                yield document
            seen += len(documents)

    def _is_frequent(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self._frequent):
            return np.zeros(len(hashes), np.bool_)
        places = np.minimum(np.searchsorted(self._frequent, hashes), len(self._frequent) - 1)
        return self._frequent[places] == hashes

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        if rules_source(document) in self.config.keep_sources:
            return None
        number, lines, frequent = self._page
        copied = self._copied(document.text, lines, self._copies.get(number))
        if not copied and not frequent.any():
            return None
        removed = boilerplate(lines, document.text, frequent, self.config)
        rest = len(document.text) - sum(len(lines.all[number]) for number in removed if number not in copied)
        if sum(len(lines.all[number]) for number in copied) > self.config.max_copied_share * rest:
            return "mostly copied paragraphs"
        if not removed:
            return None
        left = [line for number, line in enumerate(lines.all) if number not in removed]
        parts = fenced("\n".join(left))
        text = "".join(part if is_code else re.sub(r"\n{3,}", "\n\n", part) for part, is_code in parts).strip()
        if not text:
            return "only repeated lines"
        self._record(document, lines.all, removed)
        document.text = text
        return None

    def _copied(self, text: str, lines: Lines, copies: set[int] | None) -> set[int]:
        """Returns the numbers of the lines outside of code that are paragraphs of better or earlier documents."""
        if not copies:
            return set()
        in_fence = in_fences(text, len(lines.all))
        long = (n for n in lines.counted if len(lines.all[n]) >= self.config.min_paragraph_chars and not in_fence[n])
        return {number for number in long if paragraph_hash(lines.all[number]) in copies}

    def _record(self, document: Document, lines: list[str], removed: dict[int, str]) -> None:
        """Records the removed lines by their place, and the removals that the rules of `damage` call wrong."""
        source = document.metadata["source"]
        for place in sorted(set(removed.values())):
            numbers = sorted(number for number, of in removed.items() if of == place)
            size = sum(len(lines[number].encode()) + 1 for number in numbers)
            example, _ = without_personal_data("\n".join(lines[number] for number in numbers)[:_EXAMPLE])
            reason = f"repeated lines, {place}"
            record(self, source, "changed", reason, bytes=size, parts=len(numbers), example=example)
        for rule in sorted({rule for _, rule in damage(lines, set(removed))}):
            record(self, source, "damaged", rule, bytes=sum(len(lines[number].encode()) + 1 for number in removed))


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
