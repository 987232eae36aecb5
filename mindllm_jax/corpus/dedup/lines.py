"""Lines that a site repeats, and paragraphs that stand in several documents.

Two rules. What is boilerplate and advertising: a run of lines that many documents of the same site have, as the paper
removes repeated consecutive phrases after counting phrases by site. And what is copied: a long paragraph stays in the
first document that has it, whatever its site.

Three steps: `CountLines` writes hashes by partition, `FindRepeats` looks at one partition in all shards at a time, so
its memory is a partition's, `DropRepeats` takes the lines out.
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

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.format import fenced
from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.settings import Repeats

# The second half of a record is written as one number, site above document.
_RECORD = np.dtype([("hash", "<u8"), ("document", "<u4"), ("site", "<u4")])
_FOUND = np.dtype([("document", "<u4"), ("hash", "<u8")])
_DIGITS = re.compile(r"\d+")
_UNDERLINE = re.compile(r"[=~^-]{3,}")


def site_of(document: Document) -> str:
    """Whose lines are counted together: the host of its address, else its source."""
    address = re.match(r"\w+://(?:[^/@]*@)?([^/:]+)", str(document.metadata.get("url", "")))
    return address[1].lower().removeprefix("www.") if address else document.metadata["source"]


def line_hash(site: str, line: str) -> int:
    """Of a line of a site. Its numbers do not count: page 3 of 7 is as much boilerplate as page 4."""
    return xxhash.xxh64_intdigest(f"{site}\n{_DIGITS.sub('0', line.strip())}".encode())


def paragraph_hash(line: str) -> int:
    """Of a paragraph, wherever it stands."""
    return xxhash.xxh64_intdigest(line.strip().encode())


class CountLines(PipelineStep):
    """Writes the hashes of a shard's lines and long paragraphs, each once a document, sorted.

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
        """Reads a shard to its end."""
        sites: Counter[str] = Counter()
        lines, paragraphs = array("Q"), array("Q")
        for number, document in enumerate(data or ()):
            with self.track_time():
                if document.metadata["source"] in self.config.keep_sources:
                    continue
                site = site_of(document)
                sites[site] += 1
                place = xxhash.xxh32_intdigest(site.encode()) << 32 | number
                found = list(filter(str.strip, document.text.split("\n")))
                for hash in {line_hash(site, line) for line in found}:
                    lines.extend((hash, place))
                if self.config.paragraph:
                    for hash in {paragraph_hash(line) for line in found if len(line) >= self.config.paragraph}:
                        paragraphs.extend((hash, place))
        with self.track_time():
            for kind, records in (("lines", lines), ("paragraphs", paragraphs)):
                _write_parts(self.folder, kind, rank, np.frombuffer(records, _RECORD), self.config.partitions)
            with self.folder.open(f"sites/{rank:05d}.json", "w") as file:
                json.dump(sites, file)


class FindRepeats(PipelineStep):
    """Finds what is repeated, one partition a task.

    Args:
        counted: the folder of `CountLines`.
        folder: gets `lines/PART.npy`, the hashes of boilerplate, and `paragraphs/SHARD/PART.npy`, the copies to drop.
        config: settings.
    """

    type = "🫂 - DEDUP"
    name = "Find repeats"

    def __init__(self, counted: DataFolderLike, folder: DataFolderLike, config: Repeats) -> None:
        super().__init__()
        self.counted, self.folder, self.config = get_datafolder(counted), get_datafolder(folder), config

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Looks at the partition `rank`."""
        with self.track_time():
            sites: Counter[int] = Counter()
            for name in self.counted.list_files("sites"):
                with self.counted.open(name) as file:
                    for site, documents in json.load(file).items():
                        sites[xxhash.xxh32_intdigest(site.encode())] += documents
            records, _ = _read_part(self.counted, "lines", rank)
            hashes, first, counts = np.unique(records["hash"], return_index=True, return_counts=True)
            of_site = np.array([sites[int(site)] for site in records["site"][first]], np.int64)
            least = np.maximum(self.config.site_documents, np.ceil(self.config.site_share * of_site))
            with self.folder.open(f"lines/{rank:05d}.npy", "wb") as file:
                np.save(file, hashes[counts >= least], allow_pickle=False)
            records, shards = _read_part(self.counted, "paragraphs", rank)
            order = np.lexsort((records["document"], shards, records["hash"]))
            records, shards = records[order], shards[order]
            again = np.zeros(len(records), np.bool_)
            again[1:] = records["hash"][1:] == records["hash"][:-1]
            for shard in np.unique(shards[again]):
                copies = records[again & (shards == shard)]
                with self.folder.open(f"paragraphs/{int(shard):05d}/{rank:05d}.npy", "wb") as file:
                    np.save(file, copies[["document", "hash"]].astype(_FOUND), allow_pickle=False)


class DropRepeats(CleaningFilter):
    """Takes out what `FindRepeats` found; a document with nothing left is dropped.

    Reads the hashes of all boilerplate into memory (8 bytes each) and the copies of its own shard. It must see the
    documents of the shard as `CountLines` did.
    """

    name = "Drop repeats"

    def __init__(self, folder: DataFolderLike, config: Repeats, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.folder, self.config = get_datafolder(folder), config
        self._boilerplate = np.zeros(0, np.uint64)
        self._copies: dict[int, set[int]] = {}

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Goes over a shard."""
        found = [_load(self.folder, name) for name in self.folder.list_files("lines")]
        self._boilerplate = np.unique(np.concatenate([*found, np.zeros(0, np.uint64)]))
        if self.folder.exists(f"paragraphs/{rank:05d}"):
            for name in self.folder.list_files(f"paragraphs/{rank:05d}"):
                for number, hash in _load(self.folder, name).tolist():
                    self._copies.setdefault(number, set()).add(hash)
        yield from super().run(self._numbered(data), rank, world_size)

    def _numbered(self, data: Iterable[Document] | None) -> Iterator[Document]:
        for self._number, document in enumerate(data or ()):
            yield document

    def apply(self, document: Document) -> str | None:
        """See `CleaningFilter.apply`."""
        if document.metadata["source"] in self.config.keep_sources:
            return None
        lines = document.text.split("\n")
        looked_at = _looked_at(document.text, lines)
        copied = self._copied(lines, looked_at)
        boilerplate = self._boilerplate_in(lines, looked_at, site_of(document)) - copied
        if not copied and not boilerplate:
            return None
        size = sum(len(lines[number].encode()) + 1 for number in copied | boilerplate)
        record(self, document.metadata["source"], "changed", "repeated lines", bytes=size)
        own = len(document.text) - sum(len(lines[number]) for number in boilerplate)
        if sum(len(lines[number]) for number in copied) > self.config.copied * own:
            return "mostly copied paragraphs"
        left = [line for number, line in enumerate(lines) if number not in copied | boilerplate]
        parts = fenced("\n".join(left))
        document.text = "".join(part if is_code else re.sub(r"\n{3,}", "\n\n", part) for part, is_code in parts).strip()
        return None if document.text else "nothing but repeats"

    def _copied(self, lines: list[str], looked_at: list[bool]) -> set[int]:
        """Numbers of the lines that are paragraphs of other documents."""
        if not (copies := self._copies.get(self._number)):
            return set()
        long = (n for n, line in enumerate(lines) if looked_at[n] and len(line) >= self.config.paragraph)
        return {number for number in long if paragraph_hash(lines[number]) in copies}

    def _boilerplate_in(self, lines: list[str], looked_at: list[bool], site: str) -> set[int]:
        """Numbers of the lines that are in runs of boilerplate."""
        if not len(self._boilerplate):
            return set()
        each = (line_hash(site, line) if here else 0 for line, here in zip(lines, looked_at, strict=True))
        hashes = np.fromiter(each, np.uint64, len(lines))
        places = np.minimum(np.searchsorted(self._boilerplate, hashes), len(self._boilerplate) - 1)
        often = ((self._boilerplate[places] == hashes) & looked_at).tolist()
        found: set[int] = set()
        for run in _runs(often, [not line.strip() for line in lines]):
            run = _without_beginning_of_text(run, lines)
            says = [lines[number].strip() for number in run if _says_something(lines[number])]
            if len(says) >= self.config.run or any(len(line) >= self.config.alone for line in says):
                found.update(run)
        return found


def _looked_at(text: str, lines: list[str]) -> list[bool]:
    """Which lines may be repeats: not blank ones, code, or a heading above everything.

    Lines of code are alike everywhere, and a fence that lost its end makes code of the text behind it.
    """
    found = [bool(line.strip()) for line in lines]
    if True in found and lines[found.index(True)].startswith("#"):
        found[found.index(True)] = False
    number = 0
    for part, is_code in fenced(text):
        last = number + part.count("\n")
        if is_code:
            found[number : last + 1] = [False] * (last + 1 - number)
        number = last
    return found


def _says_something(line: str) -> bool:
    """Whether a line may be boilerplate by itself: a rule, a bracket or a heading goes with others only."""
    return not line.startswith("#") and any(map(str.isalpha, line))


def _without_beginning_of_text(run: list[int], lines: list[str]) -> list[int]:
    """Without the heading that stands above what follows, or the words that the next line goes on from."""
    end = len(run)
    while end:
        number = run[end - 1]
        if _UNDERLINE.fullmatch(lines[number].strip()) and end > 1 and run[end - 2] == number - 1:
            end -= 2
        elif lines[number].startswith("#"):
            end -= 1
        else:
            break
    # One line: what is before it may be a menu in small letters.
    goes_on = end > 0 and "".join(lines[run[end - 1] + 1 : run[end - 1] + 2]).lstrip()[:1].islower()
    return run[: end - goes_on]


def _runs(often: list[bool], blank: list[bool]) -> list[list[int]]:
    """Numbers of the lines in each run of frequent lines; blank lines do not end one."""
    runs: list[list[int]] = [[]]
    for number, (frequent, empty) in enumerate(zip(often, blank, strict=True)):
        if frequent:
            runs[-1].append(number)
        elif not empty and runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _write_parts(folder: DataFolder, kind: str, rank: int, records: np.ndarray, partitions: int) -> None:
    parts = records["hash"] % np.uint64(partitions)
    for part in range(partitions):
        with folder.open(f"{kind}/{part:05d}/{rank:05d}.npy", "wb") as file:
            np.save(file, records[parts == part], allow_pickle=False)


def _read_part(folder: DataFolder, kind: str, part: int) -> tuple[np.ndarray, np.ndarray]:
    """The records of a partition in all shards, and the shard of each."""
    names = folder.list_files(f"{kind}/{part:05d}")
    records = [_load(folder, name) for name in names]
    shards = [np.full(len(found), int(name[-9:-4]), np.uint32) for name, found in zip(names, records, strict=True)]
    return np.concatenate([*records, np.zeros(0, _RECORD)]), np.concatenate([*shards, np.zeros(0, np.uint32)])


def _load(folder: DataFolder, name: str) -> np.ndarray:
    with folder.open(name, "rb") as file:
        return np.load(file, allow_pickle=False)
