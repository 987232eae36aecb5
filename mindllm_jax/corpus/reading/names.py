"""Makes the ids of a corpus unique in their source and gives each source one language, over all shards.

A shard sees its own documents alone, so this takes three steps: `CollectNames` at the end of the first stage,
`ResolveNames` as a stage of one task, and `ApplyNames` wherever the text is read.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.outcomes import record
from mindllm_jax.text.documents import SeenIds, id_hash
from mindllm_jax.text.names import source_name

_UNIQUE = "id made unique"


def move_stray(document: Document, lang: str) -> None:
    """Moves a document in `lang` out of a source in another language, to the source `stray_LANG_SOURCE`.

    `declared_source` keeps the source whose settings hold for it.
    """
    source = document.metadata["source"]
    document.metadata |= {"source": source_name(f"stray_{lang}_{source}"), "declared_source": source}


class CollectNames(PipelineStep):
    """Makes ids unique in the shard, and writes its ids and the languages of its sources.

    Args:
        folder: gets `ids/RANK.npy`, hashes of the ids, and `languages/RANK.json`, documents by source and language.
    """

    type = "📇 - NAMES"
    name = "Collect names"

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        seen, languages = SeenIds(), defaultdict[str, Counter[str]](Counter)
        for number, document in enumerate(data or ()):
            with self.track_time():
                source = document.metadata["source"]
                repeated = False
                while not seen.add(source, document.id):
                    document.id, repeated = f"{document.id}#{number}", True
                if repeated:
                    record(self, source, "changed", _UNIQUE, bytes=0)
                languages[source][document.metadata["lang"]] += 1
            yield document
        with self.folder.open(f"ids/{rank:05d}.npy", "wb") as file:
            np.save(file, seen.hashes(), allow_pickle=False)
        with self.folder.open(f"languages/{rank:05d}.json", "w") as file:
            json.dump(languages, file, ensure_ascii=False)


class ResolveNames(PipelineStep):
    """Finds the ids that several shards have and the sources with two languages.

    It takes about 32 bytes of memory per document of the corpus.

    Args:
        folder: of `CollectNames`; gets `repeated/RANK.npy`, the ids that a shard before has in the same source, and
            `strays.json`, the languages to move out of a source because more of its documents are in another.
        names: of the shards' files, for messages.

    Raises:
        ValueError: two sources differ by upper and lower case alone, which some file systems take for one.
    """

    type = "📇 - NAMES"
    name = "Resolve names"

    def __init__(self, folder: DataFolderLike, names: Sequence[str]) -> None:
        super().__init__()
        self.folder, self.names = get_datafolder(folder), names

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Reads the output of all shards."""
        with self.track_time():
            strays = self._strays()
            self._write_repeated()
            # Written last: it means that all is resolved.
            with self.folder.open("strays.json", "w") as file:
                json.dump(strays, file, ensure_ascii=False)

    def _strays(self) -> dict[str, list[str]]:
        languages, places = defaultdict[str, Counter[str]](Counter), dict[str, str]()
        for rank, name in enumerate(self.names):
            with self.folder.open(f"languages/{rank:05d}.json") as file:
                for source, counts in json.load(file).items():
                    languages[source].update(counts)
                    places.setdefault(source, name)
        lower: dict[str, str] = {}
        for source in languages:
            other = lower.setdefault(source.lower(), source)
            if other != source:
                raise ValueError(
                    f"the sources {other!r} (in {places[other]}) and {source!r} (in {places[source]}) differ by upper"
                    " and lower case alone, which some file systems take for one; rename the files or the field"
                    " `source` of one"
                )
        return {
            source: sorted(counts.keys() - {max(counts, key=lambda lang: (counts[lang], lang))})
            for source, counts in languages.items()
            if len(counts) > 1
        }

    def _write_repeated(self) -> None:
        shards: list[np.ndarray] = []
        for rank in range(len(self.names)):
            with self.folder.open(f"ids/{rank:05d}.npy", "rb") as file:
                shards.append(np.load(file, allow_pickle=False))
        hashes = np.concatenate(shards)
        ranks = np.repeat(np.arange(len(shards), dtype=np.uint32), list(map(len, shards)))
        # Stable: of equal hashes the first shard comes first and keeps its id.
        order = np.argsort(hashes, kind="stable")
        hashes, ranks = hashes[order], ranks[order]
        again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        for rank in np.unique(ranks[again]).tolist():
            with self.folder.open(f"repeated/{rank:05d}.npy", "wb") as file:
                np.save(file, hashes[again][ranks[again] == rank], allow_pickle=False)


class ApplyNames(PipelineStep):
    """Renames the documents of a shard as `ResolveNames` found: ids, and sources of strays.

    Args:
        folder: of `ResolveNames`.
        names: of the shards' files, which repeated ids are extended by.
        count: records the renamed documents as outcomes; for one of the stages that read the text.
    """

    type = "📇 - NAMES"
    name = "Apply names"

    def __init__(self, folder: DataFolderLike, names: Sequence[str], *, count: bool = False) -> None:
        super().__init__()
        self.folder, self.names, self.count = get_datafolder(folder), names, count

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        repeated: set[int] = set()
        if self.folder.exists(name := f"repeated/{rank:05d}.npy"):
            with self.folder.open(name, "rb") as file:
                repeated = set(np.load(file, allow_pickle=False).tolist())
        with self.folder.open("strays.json") as file:
            strays: dict[str, list[str]] = json.load(file)
        for document in data or ():
            source, lang = document.metadata["source"], document.metadata["lang"]
            if repeated and id_hash(source, document.id) in repeated:
                document.id = f"{document.id}@{self.names[rank]}"
                if self.count:
                    record(self, source, "changed", _UNIQUE, bytes=0)
            if lang in strays.get(source, ()):
                move_stray(document, lang)
            yield document
