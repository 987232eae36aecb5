"""Settings of the pipeline that cleans a corpus: plain data, so that reading them needs none of its packages."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import read_json, write_text


@dataclass(frozen=True)
class QualityRules:
    """Bounds; a document on the wrong side of one is dropped. For the features see `chinese.py` and `english.py`.

    The paper's rules as far as they are known are the text density and the Han characters; the English ones are those
    of Gopher (arXiv 2112.11446, table A1) and C4, the other Chinese ones are ours.

    Attributes:
        density: least text density of a web page, 0 to 1.
        short_sources: sources of poems, quotations, reviews, headlines. Only these rules hold for them: the next three,
            `zh_han_share`, `zh_symbols`, `en_alphabetic`, `en_symbols` without ellipses, and those of repetition.
        short_characters: least characters of a text of those.
        short_punctuation: most, in Chinese; quotations are full of it.
        short_repeats: share of repeated lines or runs that they may have whatever else is set; a refrain is no fault.
        zh_han, zh_han_share, zh_punctuation, zh_ends, zh_words: least.
        zh_most_punctuation, zh_symbols: most.
        zh_repeated_lines, zh_repeated_runs, zh_commonest_run: most.
        en_words, en_alphabetic, en_stop_words, en_ends: least.
        en_word_length: least and most.
        en_symbols, en_bullets, en_ellipses, en_repeated_lines, en_repeated_runs, en_commonest_run: most.
    """

    density: float = 0.75
    short_sources: tuple[str, ...] = ()
    short_characters: int = 10
    short_punctuation: float = 0.5
    short_repeats: float = 0.5
    zh_han: int = 100
    zh_han_share: float = 0.1
    zh_punctuation: float = 0.02
    zh_most_punctuation: float = 0.35
    zh_symbols: float = 0.25
    zh_ends: float = 0.2
    zh_words: float = 0.2
    zh_repeated_lines: float = 0.3
    zh_repeated_runs: float = 0.4
    zh_commonest_run: float = 0.25
    en_words: int = 50
    en_word_length: tuple[float, float] = (3.0, 10.0)
    en_alphabetic: float = 0.7
    en_stop_words: int = 2
    en_symbols: float = 0.1
    en_bullets: float = 0.9
    en_ellipses: float = 0.3
    en_ends: float = 0.2
    en_repeated_lines: float = 0.3
    en_repeated_runs: float = 0.3
    en_commonest_run: float = 0.18

    def __post_init__(self) -> None:
        counts = (name for name, value in vars(self).items() if isinstance(value, int | float))
        require_at_least(self, 0, *counts)


@dataclass(frozen=True)
class Repeats:
    """When a line or a paragraph is one too many.

    Attributes:
        site_documents: least documents of a site with a line that is boilerplate.
        site_share: least share of the site's documents, 0 to 1.
        run: at least so many such lines in a row are taken out.
        alone: or so many characters of a line that stands alone.
        paragraph: least characters of a paragraph that may stand in one document only; 0 leaves them all.
        copied: a document of which such paragraphs are more than this share goes: what is left of it is no text.
        keep_sources: in these nothing is taken out, as in poems with their refrains.
        partitions: of the hashes of lines, paragraphs and whole documents; more take less memory each.
    """

    site_documents: int = 10
    site_share: float = 0.02
    run: int = 2
    alone: int = 30
    paragraph: int = 200
    copied: float = 0.5
    keep_sources: tuple[str, ...] = ()
    partitions: int = 8

    def __post_init__(self) -> None:
        require_at_least(self, 2, "site_documents", "run")
        require_at_least(self, 1, "partitions")
        require_at_least(self, 0, "site_share", "alone", "paragraph", "copied")


@dataclass(frozen=True)
class MinHash:
    """How near-duplicates are found. Two texts with Jaccard similarity s of their shingles meet in some bucket with
    probability 1 - (1 - s^hashes)^buckets, and are then compared by their whole signatures.

    Attributes:
        words: tokens in a shingle of text that is mostly not Han.
        characters: tokens in a shingle of text that is mostly Han.
        buckets: how many.
        hashes: in a bucket.
        similarity: least estimated Jaccard similarity of two signatures that met; 0 takes every pair that met.
        seed: of the hash functions.

    The defaults are from docs/results/planted.md. Short runs and a low similarity find copies with edits everywhere:
    an edit of one character spoils every run it is in. That most of what is removed is a copy rests on comparing whole
    signatures, not on the buckets, which may therefore be many and small. A similarity of 0.5 removes less that has
    less than half in common, and finds fewer of the copies with 15 % of the characters edited.
    """

    words: int = 2
    characters: int = 3
    buckets: int = 40
    hashes: int = 4
    similarity: float = 0.45
    seed: int = 1

    def __post_init__(self) -> None:
        require_at_least(self, 1, "words", "characters", "buckets", "hashes")
        require_seed(self, "seed")
        if not 0 <= self.similarity <= 1:
            raise ValueError(f"MinHash.similarity must lie between 0 and 1, not be {self.similarity}")


@dataclass(frozen=True)
class Decontamination:
    """What counts as a benchmark's item in a document.

    Attributes:
        benchmarks: a folder with the raw files, a folder or file for each benchmark; "" looks for none.
        words: tokens in a run of text that is mostly not Han; 13 as for GPT-3 (arXiv 2005.14165, appendix C).
        characters: tokens in a run of text that is mostly Han.
        share: an item is there if at least this share of its runs is. Spaces, punctuation, case, full-width forms,
            letters before choices and the Chinese script do not matter.
        action: "cut" takes out the lines that hold the runs, "drop" the document.

    Shorter runs look for more of the short items and flag more clean text, see docs/results/contamination.md.
    """

    benchmarks: str = ""
    words: int = 13
    characters: int = 20
    share: float = 0.5
    action: Literal["cut", "drop"] = "cut"

    def __post_init__(self) -> None:
        require_at_least(self, 2, "words", "characters")
        require_local(self, "benchmarks")
        if not 0 < self.share <= 1:
            raise ValueError(f"Decontamination.share must be above 0 and at most 1, not {self.share}")
        if self.action not in ("cut", "drop"):
            raise ValueError(f"Decontamination.action must be 'cut' or 'drop', not {self.action!r}")


@dataclass(frozen=True)
class Scoring:
    """What is kept by how surprising a small model of ours finds it.

    The documents of each source, in order of their bits per token, are cut into as many equal parts as `keep` has
    numbers. Within a source, because what is common in laws is rare in poems, and the proportions are the mixture's.

    Attributes:
        run: folder of a pre-training run; "" scores nothing.
        step: of its checkpoint; None: the newest.
        tokens: of a document that are read at most, from its beginning.
        batch_size: rows that the model reads at a time; documents are packed into them.
        keep: of each part the share of documents to keep, 0 to 1, chosen by the hashes of their ids; the part that
            surprises least comes first. (1.0,) keeps all and writes down the bits, to be looked at before
            anything is cut.
    """

    run: str = ""
    step: int | None = None
    tokens: int = 512
    batch_size: int = 16
    keep: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "tokens", "batch_size")
        require_at_least(self, 0, "step")
        require_local(self, "run")
        if not any(self.keep) or not all(0 <= share <= 1 for share in self.keep):
            raise ValueError(f"Scoring.keep must be shares between 0 and 1, not all of them 0; it is {self.keep}")


@dataclass(frozen=True)
class Executor:
    """How the tasks of a stage are run. A task is a shard; one that was finished is not run again.

    Attributes:
        kind: "local", "slurm" or "ray". With Slurm all stages are submitted at once, each waiting for the one before.
        workers: tasks at a time; 0 for one a core here, all of them on Slurm and Ray.
        memory_gb: whole gigabytes reserved for a task on Slurm and Ray.
        partition: of Slurm.
        time: limit of a task on Slurm, as Slurm writes it.
        environment: a shell line that makes Python find this project on the nodes, such as `source .venv/bin/activate`.
        gpus: of a task that computes with a model (`Scoring`), on Slurm and Ray.
        sbatch: further options of sbatch by name.
    """

    kind: Literal["local", "slurm", "ray"] = "local"
    workers: int = 0
    memory_gb: int = 4
    partition: str = ""
    time: str = "24:00:00"
    environment: str = ""
    gpus: int = 0
    sbatch: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("local", "slurm", "ray"):
            raise ValueError(f"Executor.kind must be 'local', 'slurm' or 'ray', not {self.kind!r}")
        if self.kind == "slurm" and not self.partition:
            raise ValueError("Executor.partition is empty; name the Slurm partition, see sinfo")
        require_at_least(self, 0, "workers", "gpus")
        require_at_least(self, 1, "memory_gb")


@dataclass(frozen=True)
class CleanCorpus:
    """Settings of the pipeline.

    Attributes:
        inputs: raw files, folders or patterns: local paths or fsspec URLs. See `Reader` for the formats. A file is a
            shard: its size bounds the memory and the time of a task.
        output: a folder, on a file system that all workers see. It gets `documents/LANG/SOURCE/SHARD.jsonl.gz`,
            `card.html`, `dropped/` with a folder a reason, `logs/`, and `work/`, of which all may go once the card is
            written but `work/clusters` and `work/benchmarks`, which another card would read.
        lang: the language of documents whose file does not say it, if it is known.
        on_bad: what to do with input that cannot be read: "error" or "skip".
        convert: rewrites Chinese as "simplified" or "traditional"; None leaves each text as it is.
        residue: what else is taken out of text outside of code: sources and a regular expression (`re.MULTILINE`), for
            marks of a documentation system or lines that a site puts under every page.
        rules: of quality.
        repeats: of lines and paragraphs.
        minhash: of near-duplicates.
        priorities: sources in the order in which a copy of theirs is the one to keep; the others come after them.
        lexicon: a file of words and phrases; see `Lexicon`. "" for none.
        lexicon_count: so many different ones in a document drop it.
        decontamination: which benchmarks' items are taken out, and how.
        scoring: which of the clean documents are kept by the score of a model, in `scored/`; may be set, and changed,
            later.
        keep_dropped: writes what is dropped to `dropped/REASON/`, to be looked at.
        executor: where it runs.
    """

    inputs: tuple[str, ...] = ()
    output: str = "runs/corpus"
    lang: str | None = None
    on_bad: Literal["error", "skip"] = "error"
    convert: Literal["simplified", "traditional"] | None = None
    residue: tuple[tuple[tuple[str, ...], str], ...] = ()
    rules: QualityRules = field(default_factory=QualityRules)
    repeats: Repeats = field(default_factory=Repeats)
    minhash: MinHash = field(default_factory=MinHash)
    priorities: tuple[str, ...] = ()
    lexicon: str = ""
    lexicon_count: int = 3
    decontamination: Decontamination = field(default_factory=Decontamination)
    scoring: Scoring = field(default_factory=Scoring)
    keep_dropped: bool = True
    executor: Executor = field(default_factory=Executor)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "lexicon_count")
        require_local(self, "output", "lexicon")
        for _, pattern in self.residue:
            try:
                re.compile(pattern, re.MULTILINE)
            except re.error as error:
                raise ValueError(f"CleanCorpus.residue: {pattern!r} is no regular expression ({error})") from None


def same_settings(folder: Path, settings: dict[str, Any], remedy: str) -> None:
    """Writes what the result in the folder depends on, or compares it with what is there.

    Raises ValueError where that differs; `remedy` says what to set instead.
    """
    settings = json.loads(json.dumps(settings))
    path = folder / "settings.json"
    if not path.exists():
        write_text(path, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
        return
    there = read_json(path)
    different = sorted(name for name in settings | there if settings.get(name) != there.get(name))
    if different:
        raise ValueError(
            f"{folder} was made with other settings ({', '.join(different)} differ, see {path}); {remedy}, or delete"
            " the folder to make it anew"
        )


def chosen_folder(config: CleanCorpus) -> Path:
    """Where the documents are that `Scoring.keep` chooses; other shares have other folders, and the bits in common."""
    digest = hashlib.sha256(json.dumps(config.scoring.keep).encode()).hexdigest()
    return Path(config.output) / f"scored/chosen-{digest[:8]}"
