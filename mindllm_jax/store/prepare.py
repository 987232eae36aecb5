"""Document files into a token store: which files make up which source, and the table of what came out."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.corpus.settings import CleanCorpus, chosen_folder
from mindllm_jax.files import sha256
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.store.manifest import SourceInfo
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document, SeenIds, read_documents
from mindllm_jax.text.input_files import input_files
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, train_tokenizer

if TYPE_CHECKING:
    from mindllm_jax.corpus.scoring import Scorer


@dataclass(frozen=True)
class PrepareData:
    """Settings of a token store.

    Attributes:
        corpus: raw files to clean first, if it names some; the documents are then what comes out.
        inputs: .jsonl or .jsonl.gz files, or folders of them; a file holds documents of one source in one language.
            Not where `corpus` names raw files.
        tokenizer: the .model file.
        train_vocab_size: where there is no such file, one of so many pieces is trained on the documents; 0: an error.
        store: where to write, a path or a TensorStore URL; sources that are there already stay.
        held_out: the fraction of each source's documents, by the hash of their ids, that training does not see.
        seed: of the order of the documents.
        rebuild: write sources again whose input files changed; otherwise they are an error.
        on_bad: what to do with a line that holds no document: "error" or "skip".
    """

    tokenizer: str
    store: str
    corpus: CleanCorpus = field(default_factory=CleanCorpus)
    inputs: tuple[str, ...] = ()
    train_vocab_size: int = 0
    held_out: float = 0.01
    seed: int = 0
    rebuild: bool = False
    on_bad: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        require_at_least(self, 0, "train_vocab_size")
        require_seed(self, "seed")
        require_local(self, "tokenizer", "inputs")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"PrepareData.held_out must be at least 0 and below 1, not {self.held_out}")
        if bool(self.inputs) == bool(self.corpus.inputs):
            raise ValueError(
                "PrepareData takes either documents (PrepareData.inputs) or raw files to clean (CleanCorpus.inputs):"
                f" {'both are' if self.inputs else 'neither is'} given"
            )
        if self.inputs and self.corpus.scoring.run:
            raise ValueError("Scoring chooses among what comes of CleanCorpus.inputs, and PrepareData.inputs are given")


class Prepared(NamedTuple):
    """What `prepare_data` did.

    Attributes:
        store: the store, open.
        written: names of the sources written now; the others were there.
        skipped: lines left out, by reason.
    """

    store: TokenStore
    written: list[str]
    skipped: Counter[str]


def prepare_data(config: PrepareData) -> Prepared:
    """Writes the sources of the input files that the store does not hold yet.

    Raises:
        OSError: an input or the tokenizer is missing, or the store cannot be written.
        ValueError: an input is bad or changed, or the store was made with other settings.
    """
    tokenizer = _tokenizer(config)
    skipped = Counter[str]()
    written = build_store(
        config.store,
        input_sources(config, skipped),
        tokenizer,
        held_out=config.held_out,
        seed=config.seed,
        rebuild=config.rebuild,
    )
    store = TokenStore.open(config.store, tokenizer)
    if config.corpus.inputs:
        from mindllm_jax.corpus.report.card import write_card
        from mindllm_jax.corpus.report.collect import collect

        tokens = {name: sum(split.tokens for split in info.splits.values()) for name, info in store.sources.items()}
        chosen = chosen_folder(config.corpus) if config.corpus.scoring.run else None
        folder = Path(config.corpus.output)
        write_card(chosen or folder, {**collect(folder, chosen=chosen), "tokens": tokens})
    return Prepared(store, written, skipped)


def clean(config: CleanCorpus, load: "Callable[[], Scorer] | None" = None) -> bool:
    """Cleans the raw files, if the settings name some, and chooses by score; returns whether the documents are there.

    load: makes the model of `CleanCorpus.scoring` ready, if its run is set. See `score_corpus`.

    Raises:
        ImportError: a package that cleaning needs is not installed.
        OSError, ValueError: see `clean_corpus`.
    """
    if not config.inputs:
        return True
    if config.scoring.run and load is None:
        raise ValueError("Scoring.run is set, and no model was handed in to score with")
    try:
        from mindllm_jax.corpus.pipeline import clean_corpus
        from mindllm_jax.corpus.scoring import score_corpus
    except ImportError as error:
        raise ImportError(f"cleaning raw files needs {error.name}: pip install 'mindllm-jax[data]'") from error
    return clean_corpus(config) and (load is None or score_corpus(config, load))


def _documents(config: PrepareData) -> list[Path]:
    if config.inputs:
        return input_files(config.inputs)
    folder = (chosen_folder(config.corpus) if config.corpus.scoring.run else Path(config.corpus.output)) / "documents"
    return input_files(sorted({str(file.parent) for file in folder.rglob("*.jsonl.gz")}))


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
    """The sources of the input files; the first document of a file says which source and language it is of."""
    files: dict[str, list[Path]] = {}
    languages: dict[str, str] = {}
    for file in _documents(config):
        first = next(read_documents(file, on_bad=config.on_bad))
        files.setdefault(first.source, []).append(file)
        languages.setdefault(first.source, first.lang)
    return [
        SourceDocuments(
            name,
            languages[name],
            {sha256(file): file.name for file in files[name]},
            partial(_read, files[name], name, languages[name], config.on_bad, skipped),
        )
        for name in sorted(files)
    ]


def _read(
    files: list[Path], source: str, lang: str, on_bad: Literal["error", "skip"], skipped: Counter[str]
) -> Iterator[Document]:
    seen = SeenIds()
    for file in files:
        for document in read_documents(file, on_bad=on_bad, seen=seen, skipped=skipped):
            if (document.source, document.lang) != (source, lang):
                raise ValueError(
                    f"{file}: the document {document.id!r} is of source {document.source!r} in {document.lang!r},"
                    f" others before it of {source!r} in {lang!r}; a file must hold one source, a source one language"
                )
            yield document


def store_table(prepared: Prepared) -> Table:
    """One line for each source, and one for all of each language."""
    rows: list[list[Cell]] = []
    for language, names in prepared.store.languages().items():
        sources = [prepared.store.sources[name] for name in names]
        for name, source in zip(names, sources, strict=True):
            rows.append([name, *_figures([source]), "written" if name in prepared.written else "there"])
        rows.append([f"all of {language}", *_figures(sources), None])
    columns = ("source", "documents", "tokens", "MB", "B/token", "held out", "now")
    return Table(columns, rows, f"token store {prepared.store.url}; held out: tokens")


def _figures(sources: list[SourceInfo]) -> list[Cell]:
    """Documents, tokens, megabytes and bytes a token of both splits together; tokens held out."""
    splits = [split for source in sources for split in source.splits.values()]
    tokens, size = sum(split.tokens for split in splits), sum(split.bytes for split in splits)
    held_out = sum(source.splits["held_out"].tokens for source in sources)
    return [sum(split.documents for split in splits), tokens, size / 1e6, size / tokens, held_out]


def inputs_table(config: PrepareData) -> Table:
    """The sources that `prepare_data` would read, or the stages that would clean them first."""
    if config.corpus.inputs:
        from mindllm_jax.corpus.pipeline import stages_table

        return stages_table(config.corpus)
    rows = [
        [source.name, source.language, ", ".join(sorted(source.inputs.values()))]
        for source in input_sources(config, Counter())
    ]
    return Table(("source", "language", "files"), rows, f"to be written to {config.store}")
