"""What is known of a clean corpus, counted shard by shard: the numbers behind the data card."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.dedup.lines import site_of
from mindllm_jax.text.codepoints import codepoints

SAMPLES, SAMPLE_CHARACTERS = 5, 400

_YEAR = re.compile(r"(?<!\d)(1[89]\d\d|20[0-4]\d)(?=年|\b)")
_REGIONS = re.compile(
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃"
    "|青海|内蒙古|广西|西藏|宁夏|新疆|香港|澳门|台湾"
)
# Words that say a person's gender, in both languages; what they are counted for is the share of each.
_GENDERED = {
    "zh": {
        "male": re.compile("他|先生|男|父亲|爸爸|儿子|丈夫|兄弟"),
        "female": re.compile("她|女士|女|母亲|妈妈|妻子|姐妹"),
    },
    "en": {
        "male": re.compile(r"\b(?:he|him|his|man|men|father|son|husband|brother|boy)\b", re.I),
        "female": re.compile(r"\b(?:she|her|hers|woman|women|mother|daughter|wife|sister|girl)\b", re.I),
    },
}


@dataclass
class SourceSummary:
    """Of one source in one language.

    Attributes:
        documents, bytes, characters: sums; bytes of UTF-8.
        lengths: documents by the power of two below their characters.
        entropies: documents by the whole half bits a character of their own distribution of characters.
        scripts, sites, decades, regions, genders: counts; decades of years that the text names.
        samples: the documents whose ids have the smallest hashes: `[hash, id, beginning]`.
    """

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    lengths: Counter[str] = field(default_factory=Counter)
    entropies: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    sites: Counter[str] = field(default_factory=Counter)
    decades: Counter[str] = field(default_factory=Counter)
    regions: Counter[str] = field(default_factory=Counter)
    genders: Counter[str] = field(default_factory=Counter)
    samples: list[list[str]] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Counts one document in."""
        text, lang = document.text, document.metadata["lang"]
        self.documents += 1
        self.bytes += len(text.encode())
        self.characters += len(text)
        self.lengths[str(int(math.log2(max(1, len(text)))))] += 1
        self.entropies[str(math.floor(2 * entropy(text)) / 2)] += 1
        if script := document.metadata.get("script"):
            self.scripts[script] += 1
        self.sites[site_of(document)] += 1
        self.decades.update(year[:3] + "0" for year in _YEAR.findall(text))
        if lang == "zh":
            self.regions.update(_REGIONS.findall(text))
        for gender, words in _GENDERED[lang].items():
            self.genders[gender] += len(words.findall(text))
        key = hashlib.sha256(document.id.encode()).hexdigest()[:16]
        self._keep([[key, document.id, text[:SAMPLE_CHARACTERS]]])

    def merge(self, other: SourceSummary) -> None:
        """Counts another shard's documents in."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        self._keep(other.samples)

    def _keep(self, samples: list[list[str]]) -> None:
        self.samples = heapq.nsmallest(SAMPLES, [*self.samples, *samples])


class Summary(PipelineStep):
    """Counts the documents that pass, and writes `RANK.json` at the end of the shard."""

    type = "📊 - STATS"
    name = "Summary"

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Passes a shard on."""
        summaries: dict[tuple[str, str], SourceSummary] = {}
        for document in data or ():
            with self.track_time():
                key = document.metadata["source"], document.metadata["lang"]
                summaries.setdefault(key, SourceSummary()).add(document)
            yield document
        rows = [{"source": source, "lang": lang, **vars(summary)} for (source, lang), summary in summaries.items()]
        with self.folder.open(f"{rank:05d}.json", "w") as file:
            json.dump(rows, file, ensure_ascii=False)


def read_summaries(folder: DataFolderLike) -> dict[tuple[str, str], SourceSummary]:
    """All shards' summaries together, by language and source."""
    found: dict[tuple[str, str], SourceSummary] = {}
    shards = get_datafolder(folder)
    for name in shards.list_files(glob_pattern="*.json"):
        with shards.open(name) as file:
            for row in json.load(file):
                found.setdefault((row["lang"], row["source"]), SourceSummary()).merge(_summary(row))
    return dict(sorted(found.items()))


def entropy(text: str) -> float:
    """Bits a character of the distribution of characters in a text."""
    _, counts = np.unique(codepoints(text), return_counts=True)
    shares = counts / max(1, len(text))
    return float(-(shares * np.log2(shares)).sum()) if len(text) else 0.0


def _summary(row: dict[str, Any]) -> SourceSummary:
    summary = SourceSummary()
    for name in vars(summary):
        setattr(summary, name, Counter(row[name]) if isinstance(row[name], dict) else row[name])
    return summary
