"""Settings of the pipeline that cleans a corpus: plain data, so that reading them needs none of its packages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.text.names import language_code, require_source_names


@dataclass(frozen=True)
class QualityRules:
    """Thresholds of the quality filter: a document below a `min_…` or above a `max_…` is dropped.

    `zh_…` hold for Chinese documents and `en_…` for English ones; `filters/chinese.py` and `filters/english.py` define
    the measured features. Shares and ratios are 0 to 1. The text density and the Han characters are the paper's rules
    as far as they are known; the English rules are those of Gopher (arXiv 2112.11446, table A1) and C4, the other
    Chinese ones are ours.

    Attributes:
        min_text_density: of a web page.
        short_sources: sources of short texts such as poems, quotations, reviews and headlines. Only `short_…`,
            `zh_min_han_share`, `zh_max_symbol_share`, `en_min_alphabetic_share`, `en_max_symbol_word_ratio` without
            ellipses and the limits on duplicates hold for them.
        short_min_chars: characters of a text of these sources.
        short_max_punctuation_share: of their Chinese texts, in place of the `zh_…_punctuation_share`.
        short_max_repetition: raises their limits on duplicate lines, duplicate n-grams and the top n-gram, if those are
            lower: a refrain is no defect.
    """

    min_text_density: float = 0.75
    short_sources: tuple[str, ...] = ()
    short_min_chars: int = 10
    short_max_punctuation_share: float = 0.5
    short_max_repetition: float = 0.5
    zh_min_han_chars: int = 100
    zh_min_han_share: float = 0.1
    zh_min_punctuation_share: float = 0.02
    zh_max_punctuation_share: float = 0.35
    zh_max_symbol_share: float = 0.25
    zh_min_terminated_share: float = 0.2
    zh_min_dictionary_share: float = 0.2
    zh_max_duplicate_line_share: float = 0.3
    zh_max_duplicate_ngram_share: float = 0.4
    zh_max_top_ngram_share: float = 0.25
    en_min_words: int = 50
    en_min_avg_word_length: float = 3.0
    en_max_avg_word_length: float = 10.0
    en_min_alphabetic_share: float = 0.7
    en_min_stop_words: int = 2
    en_max_symbol_word_ratio: float = 0.1
    en_max_bullet_line_share: float = 0.9
    en_max_ellipsis_line_share: float = 0.3
    en_min_terminated_share: float = 0.2
    en_max_duplicate_line_share: float = 0.3
    en_max_duplicate_ngram_share: float = 0.3
    en_max_top_ngram_share: float = 0.18

    def __post_init__(self) -> None:
        require_at_least(self, 0, *(name for name, value in vars(self).items() if isinstance(value, int | float)))
        require_source_names("QualityRules.short_sources", self.short_sources)


@dataclass(frozen=True)
class Repeats:
    """Settings to remove lines and paragraphs that several documents have.

    Attributes:
        min_site_documents: documents of a site that must have two lines one after the other, for them to be
            boilerplate. The beginning and the end of a document count as lines.
        min_site_share: share of the site's documents that must have them, 0 to 1.
        min_run_lines: boilerplate lines in a row that are removed, and shorter runs are not,
        min_lone_chars: unless one of their lines has so many characters, at the head or foot of a document.
        min_paragraph_chars: characters of a paragraph that is looked for in all other documents; 0 looks for none.
            Paragraphs are not cut out: what another document quotes is not boilerplate.
        max_copied_share: share of a document's characters in paragraphs of better or earlier documents; above it the
            document is dropped. See `CleanCorpus.priorities`.
        keep_sources: sources of which no line is removed, such as poems with their refrains.
        partitions: of the hashes of lines, paragraphs and documents; more take less memory each.
    """

    min_site_documents: int = 10
    min_site_share: float = 0.02
    min_run_lines: int = 2
    min_lone_chars: int = 30
    min_paragraph_chars: int = 200
    max_copied_share: float = 0.5
    keep_sources: tuple[str, ...] = ()
    partitions: int = 8

    def __post_init__(self) -> None:
        require_at_least(self, 2, "min_site_documents", "min_run_lines")
        require_at_least(self, 1, "partitions")
        require_at_least(self, 0, "min_site_share", "min_lone_chars", "min_paragraph_chars", "max_copied_share")
        require_source_names("Repeats.keep_sources", self.keep_sources)


@dataclass(frozen=True)
class MinHash:
    """Settings to detect near-duplicates.

    Two texts whose n-grams have the Jaccard similarity s share a bucket with probability 1 - (1 - s^h)^b for b buckets
    of h hashes; all pairs that share one are compared by their complete signatures.

    Attributes:
        ngram_words: n for text that is mostly not Han.
        ngram_chars: n for text that is mostly Han.
        buckets: b.
        hashes_per_bucket: h.
        min_similarity: estimated Jaccard similarity of two signatures in a pair of near-duplicates, 0 to 1; 0 takes
            every pair that shares a bucket.
        compare_facts: whether two texts with other names or numbers are no duplicates, see `dedup/facts.py`.
        seed: of the hash functions.

    The defaults are from docs/results/planted.md. Short n-grams and a low similarity detect copies with edits
    everywhere: an edit of one character changes every n-gram that contains it. The comparison of complete signatures
    provides the precision, so the buckets may be many and small. Pages of one form, as of two functions, are as similar
    as edited copies: the facts tell them apart. A higher `min_similarity` merges fewer of the pages that are left, and
    detects fewer copies.
    """

    ngram_words: int = 2
    ngram_chars: int = 3
    buckets: int = 40
    hashes_per_bucket: int = 4
    min_similarity: float = 0.5
    compare_facts: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        require_at_least(self, 1, "ngram_words", "ngram_chars", "buckets", "hashes_per_bucket")
        require_seed(self, "seed")
        if not 0 <= self.min_similarity <= 1:
            raise ValueError(f"MinHash.min_similarity must lie between 0 and 1, not be {self.min_similarity}")


@dataclass(frozen=True)
class Decontamination:
    """Settings to detect and remove items of benchmarks.

    Attributes:
        benchmarks: a folder with the raw files, a folder or file per benchmark; "" detects none.
        ngram_words: n for text that is mostly not Han; 13 as for GPT-3 (arXiv 2005.14165, appendix C).
        ngram_chars: n for text that is mostly Han.
        min_ngram_share: share of an item's n-grams that a document must have, above 0 and at most 1. Spaces,
            punctuation, case, full-width forms, letters before choices and the Chinese script do not matter.
        action: "cut" removes the lines with these n-grams, "drop" the document.

    Shorter n-grams detect more of the short items and flag more clean text, see docs/results/contamination.md.
    """

    benchmarks: str = ""
    ngram_words: int = 13
    ngram_chars: int = 20
    min_ngram_share: float = 0.5
    action: Literal["cut", "drop"] = "cut"

    def __post_init__(self) -> None:
        require_at_least(self, 2, "ngram_words", "ngram_chars")
        require_local(self, "benchmarks")
        if not 0 < self.min_ngram_share <= 1:
            raise ValueError(
                f"Decontamination.min_ngram_share must be above 0 and at most 1, not {self.min_ngram_share}"
            )
        if self.action not in ("cut", "drop"):
            raise ValueError(f"Decontamination.action must be 'cut' or 'drop', not {self.action!r}")


@dataclass(frozen=True)
class Scoring:
    """Settings to choose documents of a clean corpus by their bits per token under a small model.

    The documents of each source, in order of their bits per token, are cut into as many equal parts as `keep` has
    numbers. Parts are of a source, because what is common in laws is rare in poems; the mixture weighs the sources.

    Attributes:
        run: folder of a pre-training run; "" scores nothing.
        output: folder of the chosen documents, with a card of their own.
        step: of its checkpoint; None: the latest.
        max_tokens: tokens of a document that the model reads, from its beginning.
        batch_size: rows that the model reads at a time; documents are packed into them.
        keep: share of the documents to keep of each part, 0 to 1, chosen by the hashes of their ids; the part with the
            fewest bits per token comes first. (1.0,) keeps all and writes the bits, to look at before choosing.
    """

    run: str = ""
    output: str = ""
    step: int | None = None
    max_tokens: int = 512
    batch_size: int = 16
    keep: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "max_tokens", "batch_size")
        require_at_least(self, 0, "step")
        require_local(self, "run", "output")
        if self.run and not self.output:
            raise ValueError("Scoring.output is empty: name a folder for the documents that Scoring.run chooses")
        if not any(self.keep) or not all(0 <= share <= 1 for share in self.keep):
            raise ValueError(f"Scoring.keep must be shares between 0 and 1, not all of them 0; it is {self.keep}")


@dataclass(frozen=True)
class Executor:
    """Settings of the machines that run the pipeline. A task is a shard; a finished task is not run again.

    Attributes:
        kind: "local", "slurm" or "ray". With Slurm all stages are submitted at once, each waiting for the one before.
        workers: tasks at a time; 0: one per core of this machine, all of them on Slurm and Ray.
        memory_gb: whole gigabytes reserved per task on Slurm and Ray.
        partition: of Slurm.
        time_limit: of a task on Slurm, in Slurm's notation.
        setup_command: a shell line that makes Python find this project on the nodes, such as
            `source .venv/bin/activate`.
        gpus: per task that runs a model (`Scoring`), on Slurm and Ray.
        sbatch: further options of sbatch by name.
    """

    kind: Literal["local", "slurm", "ray"] = "local"
    workers: int = 0
    memory_gb: int = 4
    partition: str = ""
    time_limit: str = "24:00:00"
    setup_command: str = ""
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
    """Settings of the pipeline from raw files to clean documents.

    Attributes:
        inputs: raw files, folders or patterns: local paths or fsspec URLs. See `Reader` for the formats. A file is a
            shard: its size bounds the memory and the time of a task.
        output: a folder on a file system that all workers see. It gets `documents/LANG/SOURCE/SHARD.jsonl.gz`,
            `card.html`, `card.json`, `dropped/` with a folder per reason, `logs/` and `work/`. Once the card is written
            `dropped` and `work` may be deleted; a card for `Scoring` also needs `work/clusters` and `work/benchmarks`.
        lang: the language of documents whose file does not name it.
        source_by: what names the source of documents that do not name it: their "file" or its "folder". Text files and
            pages of a folder that has several of them are always of the folder's source.
        text_field: the field or column of the text in JSON lines and parquet.
        id_field: the field or column of the id.
        keep_columns: other fields and columns of strings and numbers to keep, in `columns` of a document; None keeps
            all. Personal data in them is not masked. `source`, `lang`, `format`, `url` and `title` are always read.
        max_chars: longer texts are split at ends of paragraphs, and the filters judge each part.
        on_bad: what to do with unreadable input: "error" or "skip". Pages of a crawl are always skipped.
        convert: converts Chinese to "simplified" or "traditional"; None leaves each text as it is.
        residue: patterns to remove from text outside of code, as pairs of sources and a regular expression
            (`re.MULTILINE`), for markup of a documentation system or lines that a site puts under every page.
        rules: thresholds of quality.
        repeats: of lines and paragraphs.
        minhash: of near-duplicates.
        priorities: sources in the order in which their copy is the one to keep; the others come after them, of exact
            copies `QualityRules.short_sources` first.
        lexicon: a file of words and phrases; see `Lexicon`. "" for none.
        lexicon_min_entries: different entries in a document that drop it.
        decontamination: of benchmarks.
        scoring: of the clean documents; may be set and changed later.
        keep_dropped: writes dropped documents to `dropped/`.
        executor: where the pipeline runs.
    """

    inputs: tuple[str, ...] = ()
    output: str = "runs/corpus"
    lang: str | None = None
    source_by: Literal["file", "folder"] = "file"
    text_field: str = "text"
    id_field: str = "id"
    keep_columns: tuple[str, ...] | None = None
    max_chars: int = 50_000
    on_bad: Literal["error", "skip"] = "error"
    convert: Literal["simplified", "traditional"] | None = None
    residue: tuple[tuple[tuple[str, ...], str], ...] = ()
    rules: QualityRules = field(default_factory=QualityRules)
    repeats: Repeats = field(default_factory=Repeats)
    minhash: MinHash = field(default_factory=MinHash)
    priorities: tuple[str, ...] = ()
    lexicon: str = ""
    lexicon_min_entries: int = 3
    decontamination: Decontamination = field(default_factory=Decontamination)
    scoring: Scoring = field(default_factory=Scoring)
    keep_dropped: bool = True
    executor: Executor = field(default_factory=Executor)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "lexicon_min_entries")
        require_at_least(self, 1000, "max_chars")
        require_local(self, "output", "lexicon")
        if found := re.search(r"[\[\]?*]", self.output):
            raise ValueError(
                f"CleanCorpus.output must have no [ ] ? or *, which would be read as a pattern, not {found[0]!r}: "
                f"{self.output}"
            )
        if self.lang is not None and language_code(self.lang) is None:
            raise ValueError(f"CleanCorpus.lang must be the code of a language such as zh or en, not {self.lang!r}")
        if self.source_by not in ("file", "folder"):
            raise ValueError(f"CleanCorpus.source_by must be 'file' or 'folder', not {self.source_by!r}")
        require_source_names("CleanCorpus.priorities", self.priorities)
        for sources, pattern in self.residue:
            require_source_names("CleanCorpus.residue", sources)
            try:
                re.compile(pattern, re.MULTILINE)
            except re.error as error:
                raise ValueError(f"CleanCorpus.residue: {pattern!r} is not a regular expression ({error})") from None
