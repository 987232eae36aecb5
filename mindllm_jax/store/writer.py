"""Writes a token store: tokenizes each source, shuffles its documents, lists it in the manifest.

A source is tokenized onto local disk first, because the order of its documents is known only at the end. Files appear
by a rename and the manifest comes last, so a source in the manifest is complete, and an interrupted one is written
again.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore as ts
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from mindllm_jax.locks import lock_folder
from mindllm_jax.store.location import open_files
from mindllm_jax.store.manifest import SPLITS, Manifest, SourceInfo, SplitInfo
from mindllm_jax.store.store import BLOCK, SHARD, array_files, read_manifest
from mindllm_jax.store.tokenized import Tokenized, tokenize
from mindllm_jax.text.documents import Document
from mindllm_jax.text.names import is_source_name, source_name
from mindllm_jax.tokenization.tokenizer import Tokenizer


class SourceDocuments(NamedTuple):
    """A source to be written.

    Attributes:
        name: name of the source and of its folder in the store.
        language: language of all its documents.
        inputs: names by sha256 of its input files. The source is not written again while these checksums stay.
        read: reads its documents, which have distinct ids.
    """

    name: str
    language: str
    inputs: dict[str, str]
    read: Callable[[], Iterable[Document]]


def build_store(
    url: str,
    sources: Iterable[SourceDocuments],
    tokenizer: Tokenizer,
    *,
    held_out: float = 0.01,
    seed: int = 0,
    rebuild: bool = False,
) -> list[str]:
    """Adds sources to the store at `url`, which it creates where there is none, and shows progress.

    A local store is locked meanwhile; one in a bucket must not be written by two commands at a time.

    The store depends on documents and settings alone, not on the order or the files of the documents.
    Memory: a batch of texts, a shard of tokens and about 40 bytes per document of the largest source. Disk, besides the
    store: the tokens of one source (in the store's folder; in the temporary folder where the store is not local).

    Args:
        url: a local path or a TensorStore URL.
        sources: those that the store has already, from the same files, are skipped.
        tokenizer: the tokenizer of all sources of the store.
        held_out: fraction of documents, by the hash of their ids, in the split `held_out`.
        seed: decides the order of the documents.
        rebuild: whether sources with changed files are written again; otherwise they raise.

    Returns the names of the written sources.

    Raises:
        ValueError: the store was made with another tokenizer, seed or fraction; a source's files changed, or the store
            has one of them under another name; a document is bad; another command writes the store.
        OSError: no space, no permission.
    """
    files = open_files(url)
    manifest = Manifest(
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        doc_id=tokenizer.doc_id,
        pad_id=tokenizer.pad_id,
        seed=seed,
        held_out=held_out,
        sources={},
    )
    with _writing(files) as scratch:
        stored = read_manifest(files, url)
        if stored is not None:
            _require_same_settings(stored, manifest, url)
            manifest = stored
        files.write("tokenizer.model", tokenizer.model).result()
        unwritten = _unwritten(sources, manifest, url, rebuild)
        columns = (
            SpinnerColumn(),
            "{task.description}",
            "{task.completed} of {task.total} sources",
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not unwritten) as progress:
            task = progress.add_task("", total=len(unwritten))
            for source in unwritten:

                def show(documents: int, size: int, name: str = source.name) -> None:
                    text = f"{name}: {documents:,} documents, {size / 1e6:,.1f} MB"
                    progress.update(task, description=escape(text))

                if source.name in manifest.sources:
                    # From now on its files differ from the manifest.
                    rest = {name: info for name, info in manifest.sources.items() if name != source.name}
                    manifest = _write_manifest(files, replace(manifest, sources=rest))
                try:
                    tokenized = tokenize(
                        source.read(), tokenizer, scratch / "tokens", fraction=held_out, seed=seed, progress=show
                    )
                except ValueError as error:
                    raise ValueError(f"source {source.name}: {error}") from None
                info = write_source(files, source, tokenized)
                del tokenized  # a file server keeps a file that is mapped, and its folder with it
                manifest = _write_manifest(files, replace(manifest, sources=manifest.sources | {source.name: info}))
                progress.advance(task)
    return [source.name for source in unwritten]


def write_source(files: ts.KvStore, source: SourceDocuments, tokenized: Tokenized) -> SourceInfo:
    """Writes both splits of a source, the documents in the order of their shuffle keys."""
    order = np.argsort(tokenized.shuffle_keys, kind="stable")
    held_out = tokenized.held_out[order]
    splits = {
        split: _write_split(files, source.name, split, tokenized, order[held_out == (split == "held_out")])
        for split in SPLITS
    }
    written = files / f"{source.name}/"
    checksums = {
        f"{source.name}/{key.decode()}": hashlib.sha256(written[key]).hexdigest()
        for key in sorted(written.list().result())
    }
    return SourceInfo(source.language, splits, source.inputs, checksums)


def _write_split(files: ts.KvStore, source: str, split: str, tokenized: Tokenized, members: np.ndarray) -> SplitInfo:
    begins, ends = tokenized.offsets[members], tokenized.offsets[members + 1]
    offsets = np.concatenate([[0], np.cumsum(ends - begins)]).astype(np.int64)
    sizes = tokenized.bytes[members]

    def tokens(start: int, stop: int) -> np.ndarray:
        """Returns the tokens start to stop of the stream; the first and the last document may be cut."""
        inside = range(np.searchsorted(offsets, start, "right") - 1, np.searchsorted(offsets, stop))
        return np.concatenate(
            [
                tokenized.tokens[begins[i] + max(0, start - offsets[i]) : min(ends[i], begins[i] + stop - offsets[i])]
                for i in inside
            ]
        )

    _write_array(array_files(files, source, split, "tokens"), offsets[-1], tokenized.tokens.dtype, tokens)
    _write_array(array_files(files, source, split, "offsets"), len(offsets), offsets.dtype, lambda a, b: offsets[a:b])
    _write_array(array_files(files, source, split, "bytes"), len(sizes), sizes.dtype, lambda a, b: sizes[a:b])
    return SplitInfo(documents=len(members), tokens=int(offsets[-1]), bytes=int(sizes.sum()))


def _write_array(files: ts.KvStore, size: int, dtype: np.dtype, part: Callable[[int, int], np.ndarray]) -> None:
    """Writes `part(start, stop)`, a shard at a time, as a zarr3 array of `size`."""
    endian = {"name": "bytes", "configuration": {"endian": "little"}}
    # Token ids hardly compress, and a checksum per block finds a flipped bit when it is read.
    codecs = [endian, {"name": "crc32c"}]
    sharding = {"chunk_shape": [BLOCK], "codecs": codecs, "index_codecs": codecs}
    metadata = {
        "shape": [int(size)],
        "data_type": dtype.name,
        # A missing file reads as this value, which is neither a token nor an offset.
        "fill_value": int(np.iinfo(dtype).max),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SHARD]}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    array = ts.open(
        {"driver": "zarr3", "metadata": metadata}, kvstore=files, create=True, delete_existing=True, write=True
    ).result()
    for start in range(0, size, SHARD):
        stop = min(start + SHARD, size)
        array[start:stop].write(part(start, stop)).result()


def _write_manifest(files: ts.KvStore, manifest: Manifest) -> Manifest:
    files.write("manifest.json", manifest.to_json()).result()
    return manifest


def _require_same_settings(stored: Manifest, wanted: Manifest, url: str) -> None:
    names = {"tokenizer_sha256": "tokenizer", "seed": "seed", "held_out": "held_out"}
    differences = [
        f"{name}: {getattr(stored, field)} in the store, {getattr(wanted, field)} requested"
        for field, name in names.items()
        if getattr(stored, field) != getattr(wanted, field)
    ]
    if differences:
        raise ValueError(
            f"the token store {url} was made with other settings:\n  " + "\n  ".join(differences) + "\n"
            "use those, choose another folder, or remove this one and write it again"
        )


def _unwritten(
    sources: Iterable[SourceDocuments], manifest: Manifest, url: str, rebuild: bool
) -> list[SourceDocuments]:
    """Returns the sources that the store lacks, or has from other files."""
    unwritten: list[SourceDocuments] = []
    owners = {checksum: name for name, info in manifest.sources.items() for checksum in info.inputs}
    for source in sources:
        if not is_source_name(source.name):
            raise ValueError(f"{source.name!r} cannot be the name of a source; write {source_name(source.name)!r}")
        if source.name in ("manifest.json", "tokenizer.model"):
            raise ValueError(f"{source.name} is a file of the store, so no source can have this name; take another")
        stored = manifest.sources.get(source.name)
        if stored is not None and (stored.inputs.keys(), stored.language) != (source.inputs.keys(), source.language):
            changed = ", ".join(sorted({source.inputs[key] for key in source.inputs.keys() - stored.inputs.keys()}))
            if not rebuild:
                raise ValueError(
                    f"source {source.name} is in the token store {url} from other files: since then"
                    f" {changed or 'its language or the list of its files'} changed; set PrepareData.rebuild = True to"
                    " write it again"
                )
            stored = None
        if stored is None:
            for checksum, file in source.inputs.items():
                if (owner := owners.get(checksum, source.name)) != source.name:
                    raise ValueError(
                        f"source {source.name}: its input {file} is in the token store {url} as {owner!r}, and would be"
                        " there twice; name the source in the field `source` of each line, or write another store"
                    )
            unwritten.append(source)
    return unwritten


@contextmanager
def _writing(files: ts.KvStore) -> Iterator[Path]:
    """Locks a local store and yields a folder for the tokens of a source, in the store where that is local.

    A second command would write its sources, and a manifest without them, over this one's.
    """
    spec = files.spec().to_json()
    if spec["driver"] != "file":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    store = Path(spec["path"])
    with lock_folder(store, user="a command that writes it", otherwise="take another store"):
        # Always the same name, so that what a killed run left is overwritten.
        folder = store / ".scratch"
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
