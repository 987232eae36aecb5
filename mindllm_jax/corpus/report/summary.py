"""Counts the documents of a clean corpus shard by shard, for the data card."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.dedup.lines import site_of
from mindllm_jax.corpus.report.source_summary import SourceSummary, Summaries, from_rows, rows
from mindllm_jax.text.codepoints import codepoints

SAMPLE_CHARACTERS = 400

_YEAR = re.compile(r"(?<!\d)(1[89]\d\d|20[0-4]\d)(?=年|\b)")
_REGIONS = re.compile(
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃"
    "|青海|内蒙古|广西|西藏|宁夏|新疆|香港|澳门|台湾"
)
# Gendered words in both languages, to report the share of each gender.
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


def add(summary: SourceSummary, document: Document) -> None:
    """Counts one document."""
    text, lang = document.text, document.metadata["lang"]
    summary.documents += 1
    summary.bytes += len(text.encode())
    summary.characters += len(text)
    summary.lengths[str(int(math.log2(max(1, len(text)))))] += 1
    summary.entropies[str(math.floor(2 * entropy(text)) / 2)] += 1
    if script := document.metadata.get("script"):
        summary.scripts[script] += 1
    summary.sites[site_of(document)] += 1
    summary.decades.update(year[:3] + "0" for year in _YEAR.findall(text))
    if lang == "zh":
        summary.regions.update(_REGIONS.findall(text))
    for gender, words in _GENDERED[lang].items():
        summary.genders[gender] += len(words.findall(text))
    key = hashlib.sha256(document.id.encode()).hexdigest()[:16]
    summary.offer([[key, document.id, text[:SAMPLE_CHARACTERS]]])


class Summary(PipelineStep):
    """Counts the documents that it passes on, and writes `RANK.json` at the end of the shard."""

    type = "📊 - STATS"
    name = "Summary"

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        summaries: Summaries = {}
        for document in data or ():
            with self.track_time():
                key = document.metadata["lang"], document.metadata["source"]
                add(summaries.setdefault(key, SourceSummary()), document)
            yield document
        with self.folder.open(f"{rank:05d}.json", "w") as file:
            json.dump(rows(summaries), file, ensure_ascii=False)


def read_summaries(folder: DataFolderLike) -> Summaries:
    """Reads the summaries of all shards, merged by language and source."""
    read: list[dict[str, Any]] = []
    shards = get_datafolder(folder)
    for name in shards.list_files(glob_pattern="*.json"):
        with shards.open(name) as file:
            read += json.load(file)
    return from_rows(read)


def entropy(text: str) -> float:
    """Returns the entropy of the distribution of characters in a text, in bits per character."""
    _, counts = np.unique(codepoints(text), return_counts=True)
    shares = counts / max(1, len(text))
    return float(-(shares * np.log2(shares)).sum()) if len(text) else 0.0
