"""The corpus of the demo: documents, instructions made from them, and a task made from the held-out ones."""

import dataclasses
import hashlib
import heapq
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import read_json, replacing
from mindllm_jax.recipes.demo import continuation
from mindllm_jax.recipes.demo.sources import ATTRIBUTION, Text, own, pinned
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import Document, document_files, held_out, write_json_lines

# Grows when the same settings make another corpus, so that one made before is not taken for it.
_RECIPE = 2


@dataclass(frozen=True)
class DemoCorpus:
    """What the corpus is made of.

    Attributes:
        directory: where it is written: `documents/SOURCE.jsonl`, `instructions/train/LANG.jsonl`,
            `instructions/held_out/LANG.jsonl`, `continuation/LANG.jsonl`, `SOURCES.md`, `manifest.json`. It appears
            when all of it is there; until then it is made in `DIRECTORY.partial`.
        text: a folder of `.jsonl` or `.jsonl.gz` files to use in place of the pinned corpus.
        lang: the language of lines of `text` that do not name theirs.
        on_bad: 'error' or 'skip': what to do with a line of `text` that holds no document.
        held_out: the fraction of documents (by the hash of their ids) that nothing is trained on; the same number
            belongs in the settings of the token store.
        instructions: at most this many for each language and side of the split.
        continuations: at most this many items of the continuation task for each language.
        seed: of the continuation task, and of what is kept where there is more than asked for.
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


def build(config: DemoCorpus, tell: Callable[[str], None] = print) -> Table:
    """Writes the corpus and returns what it holds; one that is there, made with the same settings, is left as it is.

    Raises:
        ConnectionError: the pinned corpus cannot be downloaded.
        ValueError: the folder holds a corpus of other settings; a line of `text` is bad; no document was held out.
    """
    directory = Path(config.directory)
    settings = _settings(config)
    if directory.exists():
        manifest = _finished(directory, settings)
        tell(f"{directory} is complete")
        return _table(manifest["documents"])
    partial = directory.with_name(f"{directory.name}.partial")
    # What an interrupted run left may be of other settings; what it downloaded is not.
    for folder in ("documents", "instructions", "continuation"):
        shutil.rmtree(partial / folder, ignore_errors=True)

    skipped: Counter[str] = Counter()
    if config.text is None:
        tell("statutes, a novel and encyclopaedia articles: 32 MB, fetched once")
        sources = pinned(partial / "raw")
        with replacing(partial / "SOURCES.md") as file:
            file.write(ATTRIBUTION)
    else:
        on_bad = "skip" if config.on_bad == "skip" else "error"
        sources = own(Path(config.text), lang=config.lang, on_bad=on_bad, skipped=skipped)

    collected = _Collected(config)
    counts: dict[str, dict[str, Any]] = {}
    for name, texts in sources.items():
        started = time.monotonic()
        tell(f"reading {name}")
        count = counts[name] = {"lang": "", "documents": 0, "held out": 0, "characters": 0, "bytes": 0}
        write_json_lines(
            partial / "documents" / f"{name}.jsonl",
            (dataclasses.asdict(document) for document in collected.documents(texts, count)),
        )
        count["seconds"] = round(time.monotonic() - started, 1)
    for kind, lines in skipped.items():
        tell(f"left out {lines} lines: {kind}")
    if not any(count["held out"] for count in counts.values()):
        raise ValueError(
            f"no document was held out at DemoCorpus.held_out = {config.held_out}: the corpus has too few documents;"
            " make the fraction larger, or the documents shorter"
        )
    made = {path: write_json_lines(partial / path, rows) for path, rows in collected.files()}
    tell("made " + ", ".join(f"{path}: {rows}" for path, rows in made.items()))
    with replacing(partial / "manifest.json") as file:
        json.dump({"settings": settings, "documents": counts, "made": made}, file, indent=2, ensure_ascii=False)
    partial.replace(directory)
    return _table(counts)


def settings_of_text(text: Path, corpus: Path) -> dict[str, Any]:
    """Settings of the demo that depend on whose text it is, by name: of the corpus, and once that is built in `corpus`,
    of the languages that it has."""
    settings: dict[str, Any] = {"DemoCorpus.text": str(text)}
    if (corpus / "manifest.json").exists():
        sources = _manifest(corpus)["documents"].values()
        proportions = {"zh": 2, "en": 3}
        settings["Mixture.weights"] = {lang: proportions.get(lang, 1) for lang in sorted({s["lang"] for s in sources})}
        tasks = {f"continuation_{lang}": corpus / f"continuation/{lang}.jsonl" for lang in proportions}
        settings["Evaluate.tasks"] = {task: str(file) for task, file in tasks.items() if file.exists()}
    return settings


class _Sample:
    """At most `size` of the rows it is given: those with the smallest hash of the seed and the id."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self._heap: list[tuple[int, str, dict[str, Any]]] = []

    def add(self, row: dict[str, Any]) -> None:
        key = int.from_bytes(hashlib.sha256(f"{self._seed}/{row['id']}".encode()).digest()[:8])
        heapq.heappush(self._heap, (-key, row["id"], row))
        if len(self._heap) > self._size:
            heapq.heappop(self._heap)

    def rows(self) -> list[dict[str, Any]]:
        """In the order of the hash, that is shuffled."""
        return [row for *_, row in sorted(self._heap, key=lambda entry: -entry[0])]


class _Collected:
    """What is made of documents while they pass: instructions, the continuation task, counts."""

    def __init__(self, config: DemoCorpus) -> None:
        self._config = config
        self._instructions = defaultdict(lambda: _Sample(config.instructions, config.seed))
        self._continuations = defaultdict(lambda: _Sample(config.continuations, config.seed))

    def documents(self, texts: Iterator[Text], count: dict[str, Any]) -> Iterator[Document]:
        for text in texts:
            document = text.document
            side = "held_out" if held_out(document.id, self._config.held_out) else "train"
            for row in text.instructions:
                self._instructions[f"instructions/{side}/{document.lang}.jsonl"].add(row)
            if side == "held_out":
                for item in continuation.items(document.id, document.lang, text.paragraphs, self._config.seed):
                    self._continuations[f"continuation/{document.lang}.jsonl"].add(item)
            count["lang"] = document.lang if count["lang"] in ("", document.lang) else "mixed"
            count["documents"] += 1
            count["held out"] += side == "held_out"
            count["characters"] += len(document.text)
            count["bytes"] += len(document.text.encode())
            yield document

    def files(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for path, sample in (self._instructions | self._continuations).items():
            yield path, sample.rows()


def _settings(config: DemoCorpus) -> dict[str, Any]:
    """What the corpus depends on."""
    settings = {"recipe": _RECIPE, **dataclasses.asdict(config)}
    del settings["directory"]
    if config.text is not None:
        files = document_files(Path(config.text))
        settings |= {"text": str(Path(config.text).resolve()), "files": {f.name: f.stat().st_size for f in files}}
    return settings


def _manifest(directory: Path) -> dict[str, Any]:
    manifest = read_json(directory / "manifest.json")
    if not all(isinstance(manifest.get(part), dict) for part in ("settings", "documents")):
        raise ValueError(
            f"{directory / 'manifest.json'}: damaged: not what the corpus of the demo has; delete {directory}"
        )
    return manifest


def _finished(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a corpus that is there, if it is the one that is asked for."""
    if not (directory / "manifest.json").exists():
        raise ValueError(f"{directory} is there and holds no corpus; set another DemoCorpus.directory")
    manifest = _manifest(directory)
    there = manifest["settings"]
    names = [name for name in settings | there if settings.get(name) != there.get(name)]
    if names:
        differences = "; ".join(f"{name} {there.get(name)} there, {settings.get(name)} now" for name in names)
        raise ValueError(
            f"{directory} holds a corpus of other settings ({differences}); delete it or set another"
            " DemoCorpus.directory"
        )
    return manifest


def _table(counts: dict[str, dict[str, Any]]) -> Table:
    columns = ("source", "lang", "documents", "held out", "characters", "bytes", "seconds")
    return Table(columns, [(name, *(count[column] for column in columns[1:])) for name, count in counts.items()])
