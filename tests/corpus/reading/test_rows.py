"""Odd rows and pages: their values cannot stop a run nor touch the keys of the pipeline."""

import json

import orjson

from mindllm_jax.corpus.outcomes import recorded
from mindllm_jax.corpus.reading.reader import Reader
from mindllm_jax.text.names import is_source_name


def test_a_page_never_stops_a_run(tmp_path, make_warc_record):
    pages = {
        "NUL bytes": make_warc_record("1", bytes(range(256)) * 4),
        "binary": make_warc_record("2", bytes(range(1, 256)) * 4, "text/html; charset=gbk"),
        "too long": make_warc_record("3", b"x" * 20_000),
        "wrong HTTP": make_warc_record("4", b"<p>x").replace(b"HTTP/1.1 200 OK", b"<html> no HTTP "),
    }
    path = tmp_path / "a.warc"
    path.write_bytes(make_warc_record("a", b"<p>x") + b"".join(pages.values()) + make_warc_record("b", b"<p>y"))
    for on_bad in ("error", "skip"):
        reader = Reader([str(path)], on_bad=on_bad, max_document_bytes=10_000)
        assert [document.id for document in reader()] == ["a", "b"]
        assert {o.reason: o.documents for o in recorded(reader)} == dict.fromkeys(pages, 1)


def test_no_row_ends_a_run_that_skips(tmp_path):
    odd = [
        {"big": 1 << 90, "negative": -(1 << 70), "nan": float("nan"), "infinite": float("inf")},
        {"\ud83d": "key", "value": "a\udc00", "title": "\ud800", "url": "http://x/\udfff"},
        {"source": {"a": 1}, "lang": 3, "format": ["x"], "url": 7, "title": None, "metadata": "{", "media": "x"},
        {"source": "..", "lang": "und"},
        {"source": "名" * 300, "lang": "zh_Hant_TW"},
        {"rank": 1, "id ": "x", "density": "low", "script": 0, "duplicate_count": "x", "declared_source": "s"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x"} | row) + "\n" for row in odd))
    for on_bad in ("error", "skip"):
        documents = list(Reader([str(path)], on_bad=on_bad)())
        assert len(documents) == len(odd)
    for document in documents:
        orjson.dumps(document.metadata)
        assert document.metadata.keys() <= {"source", "lang", "format", "url", "title", "columns"}
        assert is_source_name(document.metadata["source"])
    assert documents[0].metadata["columns"]["big"] == str(1 << 90)
    assert documents[1].metadata == {
        "source": "a", "title": "\ufffd", "url": "http://x/\ufffd", "columns": {"\ufffd": "key", "value": "a\ufffd"},
    }  # fmt: skip
    assert documents[4].metadata["lang"] == "zh"
    assert documents[5].metadata["columns"]["rank"] == 1
