"""Training a SentencePiece BPE tokenizer on a sample that is balanced between the languages."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sentencepiece
from rich.console import Console
from rich.progress import track

from mindllm_jax.corpus.documents import Document, held_out, read_documents
from mindllm_jax.data.files import input_files
from mindllm_jax.data.sample import SmallestHashes
from mindllm_jax.data.sentencepiece_model import ASSISTANT, DOC, PAD, USER
from mindllm_jax.data.tokenizer import Tokenizer
from mindllm_jax.files import write_bytes
from mindllm_jax.reporting.tables import Table

# Left to itself SentencePiece never learns a newline and spends a byte piece on each, 6 % of all tokens.
NEWLINE_RUNS = tuple("\n" * n for n in (1, 2, 3, 4))

# Characters that SentencePiece keeps for itself while it trains; a text may hold them, and they become byte pieces.
_RESERVED = "\0\t\u2581\u2585"

# SentencePiece drops sentences of more than 4,192 bytes, with one warning; a character takes at most 4.
_SENTENCE_CHARACTERS = 1000

# Han, and the kana that SentencePiece joins with it.
_HAN = "々〇\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

# All pieces of a vocabulary that are not learned: <unk>, the symbols, the newline runs, the bytes.
_FIXED_PIECES = 1 + 4 + len(NEWLINE_RUNS) + 256

_MEASURED_BYTES = 1_000_000


@dataclass(frozen=True)
class TrainTokenizer:
    """Settings of a tokenizer.

    Attributes:
        inputs: .jsonl or .jsonl.gz files, or folders of them.
        output: the .model file to write; the report goes beside it as .json.
        vocab_size: V, with the symbols and the 256 byte pieces.
        sample_bytes: UTF-8 bytes to train on, shared equally between the languages; a language with less gives all it
            has. Training takes about 25 times as much memory.
        character_share: the most frequent characters become pieces, up to this share of the vocabulary; the others are
            encoded as bytes. It bounds what rare Han characters take from a small vocabulary.
        han_run: the longest run of Han characters in a piece. Han text has no spaces, so without a bound whole clauses
            that statutes repeat become pieces.
        held_out: this fraction of the documents (the one PrepareData holds out) is not trained on but measured.
        seed: of the sample.
        on_bad: what to do with a line that holds no document: "error" or "skip".
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

    def __post_init__(self) -> None:
        if self.vocab_size <= _FIXED_PIECES:
            raise ValueError(
                f"TrainTokenizer.vocab_size must exceed {_FIXED_PIECES} (bytes and symbols), not be {self.vocab_size}"
            )
        if min(self.sample_bytes, self.han_run) < 1:
            raise ValueError("TrainTokenizer.sample_bytes and TrainTokenizer.han_run must be at least 1")
        if not 0 < self.character_share < 1:
            raise ValueError(f"TrainTokenizer.character_share must lie between 0 and 1, not be {self.character_share}")
        if not self.output.endswith(".model"):
            raise ValueError(f"TrainTokenizer.output must end in .model, not be {self.output!r}")


class Sample(NamedTuple):
    """Texts by language: those to train on, and held-out ones to measure on."""

    train: dict[str, list[str]]
    held_out: dict[str, list[str]]


def train_tokenizer(config: TrainTokenizer) -> tuple[Tokenizer, dict[str, Any]]:
    """Samples, trains, measures; writes the model and its report. Shows what it is doing.

    The same documents with the same settings give the same model, byte for byte, in whatever order and files they come.

    Returns the tokenizer and the report, as the .json file holds it.

    Raises:
        OSError: an input is missing, or the output cannot be written.
        ValueError: an input is bad, or too little text for the vocabulary.
    """
    console = Console(stderr=True)
    files = track(input_files(config.inputs), "reading documents", console=console)
    documents = (document for file in files for document in read_documents(file, on_bad=config.on_bad))
    sample = sample_texts(documents, config)
    output = Path(config.output)
    with console.status(f"training a vocabulary of {config.vocab_size:,}"):
        write_bytes(output, train_model(sample.train, config))
    tokenizer = Tokenizer.load(output)
    report = _report(tokenizer, sample, config)
    write_bytes(output.with_suffix(".json"), (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())
    return tokenizer, report


def sample_texts(documents: Iterable[Document], config: TrainTokenizer) -> Sample:
    """One pass over the documents; keeps the sample and no more in memory."""
    train: dict[str, SmallestHashes] = {}
    measured: dict[str, SmallestHashes] = {}
    for document in documents:
        if document.lang not in train:
            train[document.lang] = SmallestHashes(config.sample_bytes)
            measured[document.lang] = SmallestHashes(_MEASURED_BYTES)
            for sample in train.values():
                sample.shrink(config.sample_bytes // len(train))
        chosen = measured if held_out(document.id, config.held_out) else train
        chosen[document.lang].add((config.seed, document.source, document.id), document.text)
    return Sample(*({lang: by_lang[lang].texts() for lang in sorted(by_lang)} for by_lang in (train, measured)))


def train_model(texts: dict[str, list[str]], config: TrainTokenizer) -> bytes:
    """The serialized SentencePiece model of the texts.

    Raises ValueError when the text is too little for the vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences([text for by_lang in texts.values() for text in by_lang], config),
            model_writer=model,
            model_type="bpe",
            vocab_size=config.vocab_size,
            character_coverage=1.0,  # rare characters were taken out of the sentences
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            add_dummy_prefix=False,
            # Control symbols are never found in plain text; user-defined ones are, wherever they stand.
            control_symbols=[DOC, USER, ASSISTANT],
            user_defined_symbols=list(NEWLINE_RUNS),
            pad_id=0,
            pad_piece=PAD,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        size = sum(len(text.encode()) for by_lang in texts.values() for text in by_lang)
        raise ValueError(
            f"SentencePiece found no vocabulary of {config.vocab_size} in {size:,} bytes of text; give more text or"
            f" lower TrainTokenizer.vocab_size ({error})"
        ) from None
    return model.getvalue()


def _sentences(texts: list[str], config: TrainTokenizer) -> Iterator[str]:
    """What SentencePiece trains on. No piece reaches over the end of a sentence, so sentences end where pieces must."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    # A space without a piece would become the bytes of its mark, and could not be told from the mark itself.
    counts[" "] = counts.total() + 1
    yield " "
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    room = min(round(config.character_share * config.vocab_size), config.vocab_size - _FIXED_PIECES)
    ends = str.maketrans(dict.fromkeys((*frequent[room:], *_RESERVED), "\n"))
    full_run = re.compile(f"([{_HAN}]{{{config.han_run}}})(?=[{_HAN}])")
    for text in texts:
        for sentence in full_run.sub("\\1\n", text.translate(ends)).split("\n"):
            for start in range(0, len(sentence), _SENTENCE_CHARACTERS):
                yield sentence[start : start + _SENTENCE_CHARACTERS]


def _report(tokenizer: Tokenizer, sample: Sample, config: TrainTokenizer) -> dict[str, Any]:
    languages = {}
    for lang, trained in sample.train.items():
        # A small corpus may hold nothing out.
        measured = sample.held_out[lang] or trained
        size = sum(len(text.encode()) for text in measured)
        languages[lang] = {
            "trained_documents": len(trained),
            "trained_bytes": sum(len(text.encode()) for text in trained),
            "measured_on": "held-out documents" if sample.held_out[lang] else "training documents",
            "measured_bytes": size,
            "bytes_per_token": round(size / sum(len(ids) for ids in tokenizer.encode_batch(measured)), 4),
        }
    pieces = [tokenizer.piece(id) for id in range(tokenizer.vocab_size) if tokenizer.token_bytes[id] > 1]
    han = [piece for piece in pieces if re.search(f"[{_HAN}]", piece)]
    return {
        "sha256": tokenizer.sha256,
        "settings": asdict(config),
        "languages": languages,
        "longest_pieces": sorted(pieces, key=len, reverse=True)[:20],
        "longest_han_pieces": sorted(han, key=len, reverse=True)[:20],
    }


def report_table(report: dict[str, Any]) -> Table:
    """The compression of each language, for people."""
    columns = ("trained_documents", "trained_bytes", "bytes_per_token", "measured_on")
    rows = [[lang, *(figures[name] for name in columns)] for lang, figures in report["languages"].items()]
    return Table(("language", *(name.replace("_", " ") for name in columns)), rows)
