"""Writes document files into a token store: which files make up which source, and a table of the result."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import sha256
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.store.manifest import SPLITS, SourceInfo
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document, SeenIds, read_documents
from mindllm_jax.text.input_files import corpus_files, input_files
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, train_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareData:
    """Settings of a token store. Either `corpus` or `inputs` names the documents.

    Attributes:
        corpus: a cleaned corpus: `CleanCorpus.output`, or `Scoring.output` for the documents chosen by score. Its data
            card gets the tokens per source.
        inputs: .jsonl or .jsonl.gz files, or folders of them; a file has documents of one source in one language.
        tokenizer: the .model file.
        train_vocab_size: pieces of a tokenizer to train on the documents if the file is missing; 0: raise an error.
        store: where to write, a path or a TensorStore URL; sources that it has already are kept.
        held_out: the fraction of each source's documents, by the hash of their ids, that training never reads.
        seed: of the order of the documents.
        rebuild: write sources again whose input files changed; otherwise they are an error.
        on_bad: what to do with a line that has no document, and with an empty file: "error" or "skip".
    """

    tokenizer: str
    store: str
    corpus: str = ""
    inputs: tuple[str, ...] = ()
    train_vocab_size: int = 0
    held_out: float = 0.01
    seed: int = 0
    rebuild: bool = False
    on_bad: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        require_at_least(self, 0, "train_vocab_size")
        require_seed(self, "seed")
        require_local(self, "tokenizer", "corpus", "inputs")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"PrepareData.held_out must be at least 0 and below 1, not {self.held_out}")
        if bool(self.inputs) == bool(self.corpus):
            raise ValueError(
                "PrepareData takes either a cleaned corpus (PrepareData.corpus) or files of documents"
                f" (PrepareData.inputs): {'both are' if self.inputs else 'neither is'} given"
            )


class Prepared(NamedTuple):
    """The result of `prepare_data`.

    Attributes:
        store: the store, open.
        written: names of the sources written by this call; the store had the others.
        skipped: number of lines without a document and of empty files, by reason.
    """

    store: TokenStore
    written: list[str]
    skipped: Counter[str]


def prepare_data(config: PrepareData) -> Prepared:
    """Writes the sources of the input files that the store does not have.

    Raises:
        OSError: an input or the tokenizer is missing, or the store cannot be written.
        ValueError: an input is bad or changed, or the store was made with other settings.
    """
    tokenizer = _tokenizer(config)
    skipped = Counter[str]()
    sources = input_sources(config, skipped)
    written = build_store(
        config.store,
        sources,
        tokenizer,
        held_out=config.held_out,
        seed=config.seed,
        rebuild=config.rebuild,
    )
    store = TokenStore.open(config.store, tokenizer)
    documents = {split: sum(info.splits[split].documents for info in store.sources.values()) for split in SPLITS}
    if config.held_out and not documents["held_out"]:
        log.warning(
            "none of the %s documents of %s is held out, so that no bits per byte can be measured: raise "
            "PrepareData.held_out = %g and write the store again",
            f"{sum(documents.values()):,}",
            config.store,
            config.held_out,
        )
    if others := sorted(store.sources.keys() - {source.name for source in sources}):
        log.warning(
            "the store %s has also sources that none of the inputs has: %s; where their text was removed, leave them"
            " out of the mixture by a weight of 0 in Mixture.source_weights, or write another store",
            config.store,
            ", ".join(others),
        )
    if config.corpus:
        from mindllm_jax.corpus.report.card import add_tokens

        tokens = {name: sum(split.tokens for split in info.splits.values()) for name, info in store.sources.items()}
        try:
            add_tokens(Path(config.corpus), tokens)
        except OSError as error:  # as of a corpus that another user cleaned
            log.warning("the card of %s does not get the numbers of tokens: %s", config.corpus, error)
    return Prepared(store, written, skipped)


def _documents(config: PrepareData) -> list[Path]:
    return input_files(config.inputs) if config.inputs else corpus_files(Path(config.corpus))


def _tokenizer(config: PrepareData) -> Tokenizer:
    if config.train_vocab_size and not Path(config.tokenizer).exists():
        train_tokenizer(
            TrainTokenizer(
                inputs=tuple(map(str, _documents(config))),
                output=config.tokenizer,
                vocab_size=config.train_vocab_size,
                held_out=config.held_out,
                seed=config.seed,
                on_bad=config.on_bad,
            )
        )
    return Tokenizer.load(config.tokenizer)


def input_sources(config: PrepareData, skipped: Counter[str]) -> list[SourceDocuments]:
    """Lists the sources of the input files, with their checksums."""
    return [
        SourceDocuments(
            source.name,
            source.language,
            {sha256(file): file.name for file in source.files},
            partial(_read, source, config.on_bad, skipped),
        )
        for source in _sources(config, skipped)
    ]


class _Source(NamedTuple):
    """A source of the input files."""

    name: str
    language: str
    files: list[Path]


def _sources(config: PrepareData, skipped: Counter[str]) -> list[_Source]:
    """Lists the sources by name; the first document of a file names its source and language."""
    sources: dict[str, _Source] = {}
    for file in _documents(config):
        empty = Counter[str]()
        first = next(read_documents(file, on_bad=config.on_bad, skipped=empty), None)
        if first is None:
            skipped.update(empty)
            continue
        source = sources.setdefault(first.source, _Source(first.source, first.lang, []))
        if first.lang != source.language:
            raise ValueError(
                f"{file} is in {first.lang!r}, {source.files[0]} of the same source {first.source!r} in"
                f" {source.language!r}; a source has one language: give them different names (the field `source` of"
                " each line, or the name of the file where lines have none)"
            )
        source.files.append(file)
    if not sources:
        raise ValueError(f"no input file holds a document: {', '.join(map(str, _documents(config)))}")
    return [sources[name] for name in sorted(sources)]


def _read(source: _Source, on_bad: Literal["error", "skip"], skipped: Counter[str]) -> Iterator[Document]:
    seen = SeenIds()
    for file in source.files:
        for document in read_documents(file, on_bad=on_bad, seen=seen, skipped=skipped):
            if (document.source, document.lang) != (source.name, source.language):
                raise ValueError(
                    f"{file}: the document {document.id!r} is of source {document.source!r} in {document.lang!r},"
                    f" others before it of {source.name!r} in {source.language!r}; a file must hold one source, a"
                    " source one language"
                )
            yield document


def store_table(prepared: Prepared) -> Table:
    """Returns a table with a line per source and a line per language."""
    rows: list[list[Cell]] = []
    for language, names in prepared.store.languages().items():
        sources = [prepared.store.sources[name] for name in names]
        for name, source in zip(names, sources, strict=True):
            rows.append([name, *_figures([source]), "written" if name in prepared.written else "kept"])
        rows.append([f"all of {language}", *_figures(sources), None])
    columns = ("source", "documents", "tokens", "MB", "B/token", "held out", "status")
    return Table(columns, rows, f"token store {prepared.store.url}; held out: tokens")


def _figures(sources: list[SourceInfo]) -> list[Cell]:
    """Returns documents, tokens, megabytes and bytes per token of both splits together, and the tokens held out."""
    splits = [split for source in sources for split in source.splits.values()]
    tokens, size = sum(split.tokens for split in splits), sum(split.bytes for split in splits)
    held_out = sum(source.splits["held_out"].tokens for source in sources)
    return [sum(split.documents for split in splits), tokens, size / 1e6, size / tokens, held_out]


def inputs_table(config: PrepareData) -> Table:
    """Returns a table of the sources that `prepare_data` would read."""
    rows = [
        [source.name, source.language, ", ".join(sorted(file.name for file in source.files))]
        for source in _sources(config, Counter())
    ]
    return Table(("source", "language", "files"), rows, f"to be written to {config.store}")
