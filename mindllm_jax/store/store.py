"""The token store: every source's documents as one stream of token ids, on disk or in a bucket.

    STORE/manifest.json                     sources, settings, and the checksum of every file
    STORE/tokenizer.model                   the tokenizer
    STORE/SOURCE/train/tokens               <doc> ids <doc> ids …, documents in a random order drawn by the seed
    STORE/SOURCE/train/offsets              [documents + 1], the first token of each document, and the end
    STORE/SOURCE/train/bytes                [documents], UTF-8 bytes of each document's text
    STORE/SOURCE/held_out/…                 the same for held-out documents, chosen by the hash of their ids

The arrays are zarr3, so any zarr reader opens them. A source is in the store when the manifest names it.
"""

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from mindllm_jax.store.location import open_files
from mindllm_jax.store.manifest import ARRAYS, DAMAGED, SPLITS, Manifest, SourceInfo, SplitInfo
from mindllm_jax.tokenization.tokenizer import Tokenizer

# A file of an array holds SHARD entries in blocks of BLOCK, each with a checksum. Reading a row fetches one or two
# blocks, so they are small; few large files suit buckets and pods.
SHARD, BLOCK = 1 << 22, 1 << 12

# For the shards' indexes and the blocks read last. Rows are read in random order, so a larger cache would not hit more.
_CACHE_BYTES = 64 << 20

_ANSWER_SECONDS = 8.0  # timeout of the first read of a store
# TensorStore's status codes of I/O failures, as opposed to damaged content.
_UNREADABLE = ("ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED")
_UNREADABLE += ("UNAVAILABLE", "UNKNOWN")
_INCOMPLETE = "is the disk mounted and the copy complete? Put the files back, or write the store again"


class TokenStore:
    """A token store opened for reading.

    Attributes:
        url: path or URL of the store.
        manifest: its tokenizer, settings and sources.
    """

    def __init__(self, url: str, files: ts.KvStore, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self._files = files
        self._context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
        self._arrays: dict[tuple[str, str], dict[str, ts.TensorStore]] = {}

    @classmethod
    def open(cls, url: str | Path, tokenizer: Tokenizer | None = None) -> "TokenStore":
        """Opens a store at a local path or any TensorStore URL (gs://, s3://, file://, …).

        Raises:
            FileNotFoundError: there is no store.
            OSError: it cannot be read, or does not answer.
            ValueError: its manifest is damaged or of another format, or it was written with another tokenizer than the
                one given.
        """
        files = open_files(str(url))
        manifest = read_manifest(files, str(url))
        if manifest is None:
            raise FileNotFoundError(
                f"there is no token store at {url} (no manifest.json): is the path right and the disk mounted?"
                " launch/prepare_data.py writes a new one"
            )
        store = cls(str(url), files, manifest)
        if tokenizer is not None:
            store._require(tokenizer)
        return store

    @property
    def tokenizer_sha256(self) -> str:
        """Checksum of the tokenizer."""
        return self.manifest.tokenizer_sha256

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the ids, from the copy in the store.

        Raises FileNotFoundError when the copy is missing, ValueError when it or the manifest is damaged.
        """
        model = _read(self._files, "tokenizer.model", self.url)
        if model is None:
            raise FileNotFoundError(f"{self.url}/tokenizer.model is missing: {_INCOMPLETE}")
        sha256 = hashlib.sha256(model).hexdigest()
        if sha256 != self.tokenizer_sha256:
            raise ValueError(
                f"{self.url}/tokenizer.model has the sha256 {sha256}, and manifest.json has tokenizer_sha256 ="
                f" {self.tokenizer_sha256}: {DAMAGED}"
            )
        tokenizer = Tokenizer(Path(self.url) / "tokenizer.model", model)
        self._require(tokenizer)
        return tokenizer

    def _require(self, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the manifest does not describe this tokenizer."""
        if tokenizer.sha256 != self.tokenizer_sha256:
            raise ValueError(
                f"the store {self.url} was written with another tokenizer (sha256 {self.tokenizer_sha256[:12]}…) than"
                f" {tokenizer.path} ({tokenizer.sha256[:12]}…); use that one, or write the store again with this one"
            )
        for field in ("vocab_size", "doc_id", "pad_id"):
            stated, actual = getattr(self.manifest, field), getattr(tokenizer, field)
            if stated != actual:
                raise ValueError(
                    f"{self.url}/manifest.json: {field} = {stated}, the tokenizer's is {actual}: {DAMAGED}"
                )

    @property
    def sources(self) -> dict[str, SourceInfo]:
        """The sources by name."""
        return self.manifest.sources

    def languages(self) -> dict[str, list[str]]:
        """Returns the names of the sources of each language, both in order."""
        by_language: dict[str, list[str]] = {}
        for name, source in sorted(self.sources.items(), key=lambda item: (item[1].language, item[0])):
            by_language.setdefault(source.language, []).append(name)
        return by_language

    def split(self, source: str, split: str) -> SplitInfo:
        """Returns documents, tokens and bytes of one split.

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

        Returns int32 [places, length]. Raises FileNotFoundError where files are missing, OSError where they
        cannot be read, ValueError where they are damaged.
        """
        views = [self._circle(source, split, start, length) for source, split, start in places]
        sources = dict.fromkeys(source for source, _, _ in places)
        try:
            tokens = ts.stack(views).read().result()
        except ValueError as error:
            raise self._failure(sources, str(error)) from None
        # A missing file reads as the fill value, which is not a token.
        if tokens.max(initial=0) >= self.manifest.vocab_size:
            raise self._failure(sources, "ids that are not tokens")
        return tokens.astype(np.int32)

    def document(self, source: str, split: str, index: int) -> np.ndarray:
        """Returns int32 ids of one document, without the `<doc>` that begins it; documents are in the store's order."""
        documents = self.split(source, split).documents
        if not 0 <= index < documents:
            raise ValueError(f"{source} has {documents} documents in its split {split}: there is no document {index}")
        offsets = self._array(source, split, "offsets")
        try:
            start, end = map(int, offsets[index : index + 2].read().result())
        except ValueError as error:
            raise self._failure([source], str(error)) from None
        if not 0 <= start < end <= self.split(source, split).tokens:
            raise self._failure([source], f"the offsets of {source} {split} changed since they were written")
        return self.windows([(source, split, start)], end - start)[0, 1:]

    def verify(self) -> None:
        """Reads every file and compares its checksum.

        Raises ValueError with the names of missing or changed files.
        """
        bad = []
        for source in self.sources.values():
            for name, checksum in source.files.items():
                stored = self._files.read(name).result()
                if stored.state != "value":
                    bad.append(f"{name} is missing")
                elif hashlib.sha256(stored.value).hexdigest() != checksum:
                    bad.append(f"{name} changed since it was written")
        if bad:
            raise ValueError(f"{self.url}: {DAMAGED}:\n  " + "\n  ".join(bad))

    def _failure(self, sources: Collection[str], problem: str) -> Exception:
        """Classifies a failed read: unreadable (OSError), incomplete (FileNotFoundError) or damaged (ValueError)."""
        if problem.startswith(_UNREADABLE):
            return OSError(f"the token store {self.url} cannot be read: {problem}")
        for source in sources:
            files = self.sources[source].files
            if missing := sorted(set(files) - self._listed(source)):
                listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
                return FileNotFoundError(
                    f"{len(missing)} of the {len(files)} files of the source {source} are missing in {self.url}"
                    f" ({listed}): {_INCOMPLETE}"
                )
        return ValueError(f"{self.url}, {' or '.join(sources)}: {problem}: {DAMAGED}")

    def _listed(self, source: str) -> set[str]:
        """Returns the existing files of a source; all of its files where the store cannot be listed."""
        try:
            return {f"{source}/{key.decode()}" for key in (self._files / f"{source}/").list().result()}
        except (NotImplementedError, ValueError):  # a web server, or a bucket without permission to list
            return set(self.sources[source].files)

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
        key = (source, split)
        if key not in self._arrays:
            self._arrays[key] = self._open_arrays(source, split, self.split(source, split))
        return self._arrays[key][name]

    def _open_arrays(self, source: str, split: str, info: SplitInfo) -> dict[str, ts.TensorStore]:
        """Opens the arrays of a split, by name, and compares their metadata with the manifest."""
        opening = {
            name: ts.open(
                {"driver": "zarr3"},
                kvstore=array_files(self._files, source, split, name),
                read=True,
                open=True,
                context=self._context,
                # A finished store never changes, so cached blocks are not checked again.
                recheck_cached=False,
            )
            for name in ARRAYS
        }
        try:
            arrays = {name: array.result() for name, array in opening.items()}
        except ValueError as error:
            raise self._failure([source], str(error)) from None
        manifest, vocab_size = f"{self.url}/manifest.json", self.manifest.vocab_size
        for name, field, size, dtype in (
            ("tokens", "tokens", info.tokens, token_dtype(vocab_size)),
            ("offsets", "documents", info.documents + 1, np.int64),
            ("bytes", "documents", info.documents, np.int64),
        ):
            shape, stored, place = arrays[name].shape, arrays[name].dtype.numpy_dtype, f"{source}/{split}/{name}"
            if shape != (size,):
                stated = f"{field} = {getattr(info, field)} of {source} {split}"
                raise ValueError(f"{manifest}: {stated}, and the array {place} has the shape {shape}: {DAMAGED}")
            if stored != dtype:
                stated = f"vocab_size = {vocab_size} takes {np.dtype(dtype)}"
                raise ValueError(f"{manifest}: {stated}, and the array {place} holds {stored}: {DAMAGED}")
        return arrays


def array_files(files: ts.KvStore, source: str, split: str, name: str) -> ts.KvStore:
    """Returns the files of one array of a source."""
    return files / f"{source}/{split}/{name}/"


def read_manifest(files: ts.KvStore, where: str) -> Manifest | None:
    """Reads the manifest of a store; None where there is none.

    Raises OSError where the store cannot be read or does not answer, ValueError where the manifest is damaged.
    """
    content = _read(files, "manifest.json", where)
    return None if content is None else Manifest.from_json(content, where)


def _read(files: ts.KvStore, name: str, where: str) -> bytes | None:
    """Reads a small file of a store; None where there is none."""
    try:
        stored = files.read(name).result(timeout=_ANSWER_SECONDS)
    except TimeoutError:
        raise TimeoutError(
            f"the token store {where} has not answered within {_ANSWER_SECONDS:.0f} s: are its address, the network and"
            " the credentials right?"
        ) from None
    except ValueError as error:
        raise OSError(f"{name} of the token store {where} cannot be read: {error}") from None
    return stored.value if stored.state == "value" else None


def token_dtype(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """Returns the smallest type that holds every id and one more value, which marks missing data."""
    return np.uint16 if vocab_size < 1 << 16 else np.uint32
