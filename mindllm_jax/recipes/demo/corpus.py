"""Builds the corpus of the demo: documents, instructions, and the continuation task from held-out documents."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import read_json, replacing
from mindllm_jax.locks import lock_folder
from mindllm_jax.recipes.demo import continuation
from mindllm_jax.recipes.demo.sources import ATTRIBUTION, Text, pinned_texts, user_texts
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import Document, document_files, held_out, write_json_lines
from mindllm_jax.text.sample import SmallestHashes

# Where the tasks of that name read their items.
CONTINUATIONS = "benchmarks/mindllm/continuation"
# Raised when the same settings build another corpus, so that an older one is not used.
_RECIPE = 3


@dataclass(frozen=True)
class DemoCorpus:
    """Settings of the demo's corpus.

    Attributes:
        directory: gets `documents/SOURCE.jsonl`, `instructions/train/LANG.jsonl`, `instructions/held_out/LANG.jsonl`,
            `benchmarks/mindllm/continuation/LANG/test.jsonl`, `SOURCES.md` and `manifest.json`. It is built in
            `DIRECTORY.partial` and renamed
            when it is complete.
        text: a folder of `.jsonl` or `.jsonl.gz` files to use in place of the pinned corpus.
        lang: the language of lines of `text` that do not name theirs.
        on_bad: what to do with a line of `text` without a document, and with an empty file: 'error' or 'skip'.
        held_out: the fraction of documents, by the hash of their ids, that no training reads; the settings of the
            tokenizer and the token store need the same number.
        instructions: maximum per language and side of the split.
        continuations: maximum of items of the continuation task per language.
        seed: of the continuation task and of the sample of instructions and items.
    """

    directory: str = "runs/demo/corpus"
    text: str | None = None
    lang: str | None = None
    on_bad: str = "error"
    held_out: float = 0.05
    instructions: int = 20_000
    continuations: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if self.on_bad not in ("error", "skip"):
            raise ValueError(f"DemoCorpus.on_bad must be 'error' or 'skip', not {self.on_bad!r}")
        require_at_least(self, 1, "instructions", "continuations")
        require_seed(self, "seed")
        require_local(self, "directory", "text")
        if not 0.0 < self.held_out < 1.0:
            raise ValueError(f"DemoCorpus.held_out must lie between 0 and 1, not {self.held_out}")


def build(config: DemoCorpus, log: Callable[[str], None] = print) -> Table:
    """Builds the corpus, unless the folder has one of the same settings; returns a table of its sources.

    Raises:
        ConnectionError: the pinned corpus cannot be downloaded.
        ValueError: the folder has a corpus of other settings, or another process builds it; a line of `text` is bad, or
            no document is held out.
    """
    directory = Path(config.directory)
    building = directory.with_name(f"{directory.name}.building")
    lock = lock_folder(building, user="another build of the corpus", otherwise="set another DemoCorpus.directory")
    with nullcontext() if directory.exists() else lock:
        return _build(config, directory, log)


def _build(config: DemoCorpus, directory: Path, log: Callable[[str], None]) -> Table:
    settings = _settings(config)
    if directory.exists():
        manifest = _finished(directory, settings)
        log(f"{directory} is complete")
        return _table(manifest["documents"])
    partial = directory.with_name(f"{directory.name}.partial")
    # The files of an interrupted run may be of other settings; its downloads are not.
    for folder in ("documents", "instructions", "benchmarks"):
        shutil.rmtree(partial / folder, ignore_errors=True)

    skipped: Counter[str] = Counter()
    if config.text is None:
        log("statutes, a novel and encyclopaedia articles: a download of 32 MB")
        sources = pinned_texts(partial / "raw")
        with replacing(partial / "SOURCES.md") as file:
            file.write(ATTRIBUTION)
    else:
        on_bad = "skip" if config.on_bad == "skip" else "error"
        sources = user_texts(Path(config.text), lang=config.lang, on_bad=on_bad, skipped=skipped)

    collector = _Collector(config)
    counts: dict[str, dict[str, Any]] = {}
    for name, texts in sources.items():
        started = time.monotonic()
        log(f"reading {name}")
        count = counts[name] = {"lang": "", "documents": 0, "held out": 0, "characters": 0, "bytes": 0}
        file = partial / "documents" / f"{name}.jsonl"
        documents = (dataclasses.asdict(document) for document in collector.documents(texts, count))
        if write_json_lines(file, documents):
            count["seconds"] = round(time.monotonic() - started, 1)
        else:  # an empty file, which the readers of the corpus refuse
            file.unlink()
            del counts[name]
    for kind, lines in skipped.items():
        log(f"skipped {lines} lines: {kind}")
    if not any(count["held out"] for count in counts.values()):
        raise ValueError(
            f"no document was held out at DemoCorpus.held_out = {config.held_out}: the corpus has too few documents;"
            " raise the fraction, or split the documents"
        )
    made = {path: write_json_lines(partial / path, rows) for path, rows in collector.files()}
    for side in ("train", "held_out"):
        if not any(path.startswith(f"instructions/{side}/") for path in made):
            raise ValueError(
                f"the {side.replace('_', '-')} documents give no instruction, because no paragraph of them has two"
                " sentences: take prose, or more of it"
            )
    log("made " + ", ".join(f"{path}: {rows}" for path, rows in made.items()))
    with replacing(partial / "manifest.json") as file:
        json.dump({"settings": settings, "documents": counts, "made": made}, file, indent=2, ensure_ascii=False)
    partial.replace(directory)
    return _table(counts)


class _Collector:
    """Collects instructions, items of the continuation task and counts from documents as they pass."""

    def __init__(self, config: DemoCorpus) -> None:
        self._config = config
        self._instructions = defaultdict(lambda: SmallestHashes[dict[str, Any]](config.instructions))
        self._continuations = defaultdict(lambda: SmallestHashes[dict[str, Any]](config.continuations))

    def documents(self, texts: Iterator[Text], count: dict[str, Any]) -> Iterator[Document]:
        for text in texts:
            document = text.document
            side = "held_out" if held_out(document.id, self._config.held_out) else "train"
            for row in text.instructions:
                self._instructions[f"instructions/{side}/{document.lang}.jsonl"].add(self._key(row), row)
            if side == "held_out":
                for item in continuation.items(document.id, document.lang, text.paragraphs, self._config.seed):
                    self._continuations[f"{CONTINUATIONS}/{document.lang}/test.jsonl"].add(self._key(item), item)
            count["lang"] = document.lang if count["lang"] in ("", document.lang) else "mixed"
            count["documents"] += 1
            count["held out"] += side == "held_out"
            count["characters"] += len(document.text)
            count["bytes"] += len(document.text.encode())
            yield document

    def files(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for path, sample in (self._instructions | self._continuations).items():
            yield path, sample.items()

    def _key(self, row: dict[str, Any]) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._config.seed}/{row['id']}".encode()).digest()[:8])


def _settings(config: DemoCorpus) -> dict[str, Any]:
    """Returns the settings and files that the corpus depends on."""
    settings = {"recipe": _RECIPE, **dataclasses.asdict(config)}
    del settings["directory"]
    if config.text is not None:
        files = document_files(Path(config.text))
        settings |= {"text": str(Path(config.text).resolve()), "files": {f.name: f.stat().st_size for f in files}}
    return settings


def read_manifest(directory: Path) -> dict[str, Any]:
    """Reads the manifest of a finished corpus. Raises ValueError if it is damaged."""
    manifest = read_json(directory / "manifest.json")
    if not all(isinstance(manifest.get(part), dict) for part in ("settings", "documents")):
        raise ValueError(
            f"{directory / 'manifest.json'}: damaged: settings or documents are missing; delete {directory}"
        )
    return manifest


def _finished(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the manifest of a finished corpus. Raises ValueError if its settings differ."""
    if not (directory / "manifest.json").exists():
        raise ValueError(f"{directory} exists and has no corpus; set another DemoCorpus.directory")
    manifest = read_manifest(directory)
    old = manifest["settings"]
    names = [name for name in settings | old if settings.get(name) != old.get(name)]
    if names:
        differences = "; ".join(f"{name} was {old.get(name)} and is {settings.get(name)}" for name in names)
        raise ValueError(
            f"{directory} has a corpus of other settings ({differences}); delete it or set another DemoCorpus.directory"
        )
    return manifest


def _table(counts: dict[str, dict[str, Any]]) -> Table:
    columns = ("source", "lang", "documents", "held out", "characters", "bytes", "seconds")
    return Table(columns, [(name, *(count[column] for column in columns[1:])) for name, count in counts.items()])
