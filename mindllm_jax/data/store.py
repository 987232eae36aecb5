"""The token store: every source's documents as one stream of token ids, on disk or in a bucket.

    STORE/manifest.json                     what is here, and the checksum of every file
    STORE/tokenizer.model                   what the ids mean
    STORE/SOURCE/train/tokens               <doc> ids <doc> ids …, documents in a random order that the seed gives
    STORE/SOURCE/train/offsets              where each document begins, and the end: [documents + 1]
    STORE/SOURCE/train/bytes                UTF-8 bytes of each document's text: [documents]
    STORE/SOURCE/held_out/…                 the same of the documents held out, which the hash of their ids decides

The arrays are zarr3, so any zarr reader opens them. A source is in the store when the manifest names it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import tensorstore as ts

from mindllm_jax.data.tokenizer import Tokenizer

FORMAT = 1
SPLITS = ("train", "held_out")

# A file of an array holds SHARD entries in blocks of BLOCK, each with its own checksum. Reading a row fetches one or
# two blocks, so they are small; few large files suit buckets and pods.
SHARD, BLOCK = 1 << 22, 1 << 12

# For the shards' indexes and the blocks read last. Rows are read in random order, so a larger cache would not hit more.
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class SplitInfo:
    """One split of a source: `tokens` counts the `<doc>` that begins each document, `bytes` the UTF-8 of the texts."""

    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class SourceInfo:
    """One source as the manifest describes it.

    Attributes:
        language: of all its documents.
        splits: by name, `train` and `held_out`.
        inputs: names and sha256 of the files it was made from.
        files: sha256 of every file of the store that belongs to it.
    """

    language: str
    splits: dict[str, SplitInfo]
    inputs: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """What a store holds; `seed` and `held_out` are those it was made with."""

    tokenizer_sha256: str
    vocab_size: int
    doc_id: int
    pad_id: int
    seed: int
    held_out: float
    sources: dict[str, SourceInfo]
    format: int = FORMAT

    def to_json(self) -> bytes:
        """As the file manifest.json."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> "Manifest":
        """Raises ValueError when the content is damaged or of another format."""
        try:
            values = json.loads(content)
            if values["format"] == FORMAT:
                sources = {
                    name: SourceInfo(**source | {"splits": {s: SplitInfo(**v) for s, v in source["splits"].items()}})
                    for name, source in values["sources"].items()
                }
                return cls(**values | {"sources": sources})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where}/manifest.json is damaged ({error}); write the store again") from None
        raise ValueError(
            f"{where} is a store of format {values['format']}, this program reads {FORMAT}; write it again"
        )


class TokenStore:
    """A token store opened for reading.

    Attributes:
        url: where it is.
        manifest: what it holds.
    """

    def __init__(self, url: str, files: ts.KvStore, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self._files = files
        self._context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
        self._arrays: dict[tuple[str, str, str], ts.TensorStore] = {}

    @classmethod
    def open(cls, url: str | Path, tokenizer: Tokenizer | None = None) -> "TokenStore":
        """Opens a store at a local path or any TensorStore URL (gs://, s3://, file://, …).

        Raises:
            FileNotFoundError: there is no store.
            ValueError: its manifest is damaged or of another format, or it was written with another tokenizer than the
                one given.
        """
        files = open_files(str(url))
        manifest = read_manifest(files, str(url))
        if manifest is None:
            raise FileNotFoundError(
                f"there is no token store at {url} (no manifest.json); write it with launch/prepare_data.py"
            )
        if tokenizer is not None and tokenizer.sha256 != manifest.tokenizer_sha256:
            raise ValueError(
                f"the store {url} was written with another tokenizer (sha256 {manifest.tokenizer_sha256[:12]}…) than"
                f" {tokenizer.path} ({tokenizer.sha256[:12]}…); use that one, or write the store again with this one"
            )
        return cls(str(url), files, manifest)

    @property
    def tokenizer_sha256(self) -> str:
        """Of the tokenizer."""
        return self.manifest.tokenizer_sha256

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the ids belong to, from the copy in the store.

        Raises ValueError when the copy is missing or not what was written.
        """
        model = self._files.read("tokenizer.model").result().value
        if hashlib.sha256(model).hexdigest() != self.tokenizer_sha256:
            raise ValueError(f"{self._damaged()}: tokenizer.model is missing or not what was written")
        return Tokenizer(Path(self.url) / "tokenizer.model", model)

    @property
    def sources(self) -> dict[str, SourceInfo]:
        """By name."""
        return self.manifest.sources

    def languages(self) -> dict[str, list[str]]:
        """The names of the sources of each language, both in order."""
        by_language: dict[str, list[str]] = {}
        for name, source in sorted(self.sources.items(), key=lambda item: (item[1].language, item[0])):
            by_language.setdefault(source.language, []).append(name)
        return by_language

    def split(self, source: str, split: str) -> SplitInfo:
        """The figures of one split.

        Raises ValueError for a source or split that is not in the store.
        """
        if source not in self.sources:
            raise ValueError(f"the store {self.url} has no source {source!r}; it has {', '.join(sorted(self.sources))}")
        if split not in self.sources[source].splits:
            raise ValueError(f"a source has the splits {' and '.join(SPLITS)}, not {split!r}")
        return self.sources[source].splits[split]

    def windows(self, places: Sequence[tuple[str, str, int]], length: int) -> np.ndarray:
        """Reads `length` consecutive tokens from each (source, split, start), all at the same time.

        A stream is a circle: after its last token comes its first, the `<doc>` that ends the last document.

        Returns int32 [places, length].

        Raises ValueError when a file of the store is missing or damaged.
        """
        views = [self._circle(source, split, start, length) for source, split, start in places]
        try:
            tokens = ts.stack(views).read().result()
        except ValueError as error:
            raise ValueError(f"{self._damaged()}: {error}") from None
        # A missing file reads as the fill value, which is no token.
        if tokens.max(initial=0) >= self.manifest.vocab_size:
            raise ValueError(f"{self._damaged()}: a file is missing or holds ids that are no tokens")
        return tokens.astype(np.int32)

    def document(self, source: str, split: str, index: int) -> np.ndarray:
        """int32 ids of one document, without the `<doc>` that begins it; documents are in the store's order."""
        documents = self.split(source, split).documents
        if not 0 <= index < documents:
            raise ValueError(f"{source} has {documents} documents in its split {split}, there is no document {index}")
        start, end = map(int, self._array(source, split, "offsets")[index : index + 2].read().result())
        if not 0 <= start < end <= self.split(source, split).tokens:
            raise ValueError(f"{self._damaged()}: the offsets of {source} {split} are not what was written")
        return self.windows([(source, split, start)], end - start)[0, 1:]

    def verify(self) -> None:
        """Reads every file and compares its checksum.

        Raises ValueError naming the files that are missing or changed.
        """
        bad = []
        for source in self.sources.values():
            for name, checksum in source.files.items():
                found = self._files.read(name).result()
                if found.state != "value":
                    bad.append(f"{name} is missing")
                elif hashlib.sha256(found.value).hexdigest() != checksum:
                    bad.append(f"{name} is not what was written")
        if bad:
            raise ValueError(f"{self._damaged()}:\n  " + "\n  ".join(bad))

    def _damaged(self) -> str:
        return f"the token store {self.url} is damaged; remove it and write it again with launch/prepare_data.py"

    def _circle(self, source: str, split: str, start: int, length: int) -> ts.TensorStore:
        tokens = self._array(source, split, "tokens")
        size = tokens.shape[0]
        start %= size
        parts = []
        while length:
            taken = min(length, size - start)
            parts.append(tokens[start : start + taken].translate_to[0])
            start, length = 0, length - taken
        return parts[0] if len(parts) == 1 else ts.concat(parts, axis=0)

    def _array(self, source: str, split: str, name: str) -> ts.TensorStore:
        key = (source, split, name)
        if key not in self._arrays:
            self.split(source, split)
            try:
                self._arrays[key] = ts.open(
                    {"driver": "zarr3"},
                    kvstore=array_files(self._files, source, split, name),
                    read=True,
                    open=True,
                    context=self._context,
                    # Nobody changes a finished store: what is in the cache need not be checked again.
                    recheck_cached=False,
                ).result()
            except ValueError as error:
                raise ValueError(f"{self._damaged()}: {error}") from None
        return self._arrays[key]


def open_files(url: str) -> ts.KvStore:
    """The files of a store, at a local path or a TensorStore URL."""
    if "://" not in url:
        url = "file://" + quote(str(Path(url).absolute()))
    try:
        return ts.KvStore.open(url.rstrip("/") + "/").result()
    except ValueError as error:
        raise ValueError(f"{url} is not a path or URL that TensorStore can open: {error}") from None


def array_files(files: ts.KvStore, source: str, split: str, name: str) -> ts.KvStore:
    """Where one array of a source is."""
    return files / f"{source}/{split}/{name}/"


def read_manifest(files: ts.KvStore, where: str) -> Manifest | None:
    """The manifest of a store; None where there is none."""
    found = files.read("manifest.json").result()
    return Manifest.from_json(found.value, where) if found.state == "value" else None


def token_dtype(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds every id and one value more, which marks what was never written."""
    return np.uint16 if vocab_size < 1 << 16 else np.uint32
