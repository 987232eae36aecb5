"""The numbers behind the data card."""

import math
from pathlib import Path

import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.report.source_summary import SAMPLES, SourceSummary
from mindllm_jax.corpus.report.summary import SAMPLE_CHARACTERS, Summary, add, entropy, read_summaries


def document(id: str, text: str, lang: str, **metadata: object) -> Document:
    return Document(text=text, id=id, metadata={"source": "s", "lang": lang, **metadata})


def test_one_document() -> None:
    summary = SourceSummary()
    text = "2008年，她在北京；1999年他在北京。电话20080101。"
    add(summary, document("a", text, "zh", script="simplified", url="https://www.Example.com:80/x"))
    assert (summary.documents, summary.bytes, summary.characters) == (1, len(text.encode()), len(text))
    assert summary.decades == {"2000": 1, "1990": 1}
    assert summary.regions == {"北京": 2}
    assert summary.genders == {"male": 1, "female": 1}
    assert summary.scripts == {"simplified": 1} and summary.sites == {"example.com": 1}
    assert summary.lengths == {str(int(math.log2(len(text)))): 1}


def test_english_words_are_whole() -> None:
    summary = SourceSummary()
    add(summary, document("a", "He and she saw the woman; then there was a human in 1850, not 18501.", "en"))
    assert summary.genders == {"male": 1, "female": 2}
    assert summary.decades == {"1850": 1}


TEXTS = st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["zh", "en"])), max_size=24)


@given(TEXTS, st.integers(1, 4))
def test_shards_together_are_the_whole(tmp_path_factory: pytest.TempPathFactory, texts, shards: int) -> None:
    rows = [document(f"{n}", text, lang) for n, (text, lang) in enumerate(texts)]
    folder = tmp_path_factory.mktemp("summary")
    for rank in range(shards):
        passed = list(Summary(str(folder)).run(rows[rank::shards], rank=rank, world_size=shards))
        assert passed == rows[rank::shards]
    whole: dict[tuple[str, str], SourceSummary] = {}
    for row in rows:
        add(whole.setdefault((row.metadata["lang"], "s"), SourceSummary()), row)

    assert read_summaries(str(folder)) == whole


def test_samples_are_few_short_and_do_not_depend_on_the_order() -> None:
    rows = [document(f"{n}", f"{n} " * 500, "en") for n in range(30)]
    one, other = SourceSummary(), SourceSummary()
    for forward, backward in zip(rows, reversed(rows), strict=True):
        add(one, forward)
        add(other, backward)
    assert one.samples == other.samples and len(one.samples) == SAMPLES
    assert all(len(text) == SAMPLE_CHARACTERS for _, _, text in one.samples)


def test_entropy() -> None:
    assert entropy("") == 0 and entropy("aaaa") == 0
    assert entropy("abcd") == 2 and entropy("中中国国") == 1


def test_no_shard(tmp_path: Path) -> None:
    assert read_summaries(str(tmp_path)) == {}
