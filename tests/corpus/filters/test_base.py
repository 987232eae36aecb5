"""The outcomes that every filter records, through datatrove's own pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.writers.jsonl import JsonlWriter
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.format import Format
from mindllm_jax.corpus.filters.language import Language
from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.privacy import Privacy
from mindllm_jax.corpus.filters.quality import Quality, QualityRules
from mindllm_jax.corpus.outcomes import Outcome, outcomes, recorded

TEXTS = {
    "laws": ["本法自公布之日起施行。", "Закон вступает в силу."],
    "news": ["It is the news of the day.", "Это новости."],
}


def documents() -> list[Document]:
    rows = [(source, text) for source, texts in TEXTS.items() for text in texts]
    return [Document(text=text, id=f"{n}", metadata={"source": source}) for n, (source, text) in enumerate(rows)]


def test_documents_and_bytes_by_source_and_outcome() -> None:
    step = Language()
    assert [d.id for d in step.run(documents())] == ["0", "2"]
    expected = [
        Outcome("Language", source, kind, reason, 1, len(text.encode()))
        for source, texts in TEXTS.items()
        for text, kind, reason in zip(texts, ("kept", "dropped"), ("", "other language"), strict=True)
    ]
    assert recorded(step) == expected


def test_bytes_are_those_that_came_in() -> None:
    step = Privacy()
    (left,) = step.run([Document(text="write to someone@somewhere.org", id="1", metadata={"source": "s"})])
    assert left.text == "write to <email>"
    assert recorded(step) == [
        Outcome("Privacy", "s", "changed", "email", 1, 21),
        Outcome("Privacy", "s", "kept", "", 1, 30),
    ]


def test_dropped_documents_are_written_with_their_reason(tmp_path: Path) -> None:
    writer = JsonlWriter(str(tmp_path / "dropped"), compression=None)
    kept = JsonlWriter(str(tmp_path / "kept"), compression=None)
    pipeline: list[Any] = [documents(), Language(exclusion_writer=writer), kept]
    run = LocalPipelineExecutor(
        pipeline,
        logging_dir=str(tmp_path / "logs"),
        skip_completed=False,
    )
    stats = run.run()
    assert stats is not None
    rows = [json.loads(line) for line in (tmp_path / "dropped/00000.jsonl").read_text("utf-8").splitlines()]
    assert [(row["id"], row["metadata"]["filter_reason"]) for row in rows] == [
        ("1", "other language"),
        ("3", "other language"),
    ]
    assert [row["text"] for row in rows] == [TEXTS["laws"][1], TEXTS["news"][1]]
    assert len((tmp_path / "kept/00000.jsonl").read_text("utf-8").splitlines()) == 2
    (step,) = (step for step in stats.stats if step.name.endswith("Language"))
    size = len(TEXTS["laws"][1].encode())
    totals = {label: int(metric.total) for label, metric in step.stats.items()}
    assert Outcome("Language", "laws", "dropped", "other language", 1, size) in outcomes("Language", totals)


FILTERS: list[CleaningFilter] = [Markup(), Format(), Language(convert="simplified"), Quality(QualityRules()), Privacy()]
# What the filters look for, in any order.
WORDS = """<p> </div> <html><body> <!-- --> {{ }} [[ ]] == ' ''' {'a': ``` ~~~ --- +++ [#]: [a]: ](/x) ![ ( ) # // /* */
@ a@b.org 138 00138000 1.2.3.4 2001:: Ã © copyright Key: *** ... • 我 們 的 word Ａ　 é \u200d 👨 \u200b \u0301"""
PIECES = st.sampled_from([*WORDS.split(), "\n", "\n\n", " ", "\r\n", "\t", "\u0000", "\U0010ffff"])
ANY_TEXT = st.one_of(st.text(), st.lists(PIECES, max_size=25).map("".join))


@pytest.mark.parametrize("step", FILTERS, ids=lambda step: step.name)
@given(text=ANY_TEXT, lang=st.sampled_from(["zh", "en"]))
def test_no_text_stops_a_filter(step: CleaningFilter, text: str, lang: str) -> None:
    for metadata in ({}, {"format": "html"}, {"format": "wiki"}, {"format": "record"}):
        document = Document(text=text, id="1", metadata={"source": "s", "lang": lang, **metadata})
        step.filter(document)
        document.text.encode()
        if step.name != "Markup":
            break
