"""Dumps of any wiki: histories, other content, other encodings."""

import bz2

import pytest

from mindllm_jax.corpus.reading.reader import Reader

TEXT = "河边的磨坊在春天重新开了。"


def dump(revisions: str, declaration: str = "") -> str:
    page = f"<page><title>磨坊</title><ns>0</ns><id>1</id>{revisions}</page>"
    return f'{declaration}<mediawiki xml:lang="zh">{page}</mediawiki>'


def revision(text: str, number: int = 1, model: str = "wikitext") -> str:
    return f"<revision><id>{number}</id><model>{model}</model><text>{text}</text></revision>"


def read(tmp_path, content: bytes, name: str = "a.xml") -> list:
    (tmp_path / name).write_bytes(content)
    return list(Reader([str(tmp_path / name)], on_bad="skip").run())


def test_the_newest_revision_of_a_history_is_read(tmp_path) -> None:
    content = dump(revision("从前的磨坊。", 5) + revision(TEXT, 7))
    (document,) = read(tmp_path, content.encode())
    assert (document.text, document.metadata["columns"]) == (TEXT, {"revision": 7})


@pytest.mark.parametrize("model", ["wikibase-item", "json", "css", "Scribunto"])
def test_content_that_is_not_wiki_markup_is_left_out(tmp_path, model: str) -> None:
    assert read(tmp_path, dump(revision(TEXT, model=model)).encode()) == []
    assert len(read(tmp_path, dump(revision(TEXT)).encode(), "b.xml")) == 1


@pytest.mark.parametrize("encoding", ["gbk", "big5hkscs", "utf-8", "no-such-encoding"])
def test_the_declared_encoding(tmp_path, encoding: str) -> None:
    text = "河水很深。"
    content = dump(revision(text), f'<?xml version="1.0" encoding="{encoding}"?>\n')
    written = content.encode(encoding if encoding != "no-such-encoding" else "utf-8")
    assert [document.text for document in read(tmp_path, written)] == [text]


def test_a_compressed_dump_in_utf_16_with_control_characters(tmp_path) -> None:
    content = bz2.compress(dump(revision(f"\x0b{TEXT}\x1f")).encode("utf-16"))
    assert [document.text for document in read(tmp_path, content, "a.xml.bz2")] == [TEXT]
