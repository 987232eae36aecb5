"""Round trip of texts through every format, plain and compressed."""

import gzip
import io
import json

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from mindllm_jax.corpus.reading.reader import Reader

FORMATS = ["jsonl", "parquet", "xml", "warc", "warc.gz", "warc.zst", "txt"]


def documents(*files, **options) -> list:
    return list(Reader([str(file) for file in files], **options)())


def write(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(tmp_path, makers, texts, format):
    found = documents(write(tmp_path / f"laws.{format}", makers[format](texts)), lang="zh")
    assert all(d.metadata["source"] == "laws" and d.metadata["lang"] == "zh" for d in found)
    if format == "txt":
        assert [(d.id, d.text) for d in found] == [("laws.txt", "\n".join(texts))]
    elif format.startswith("warc"):
        assert [d.text for d in found] == [f"<p>{text}</p>" for text in texts]
        assert found[1].id == "i1"
        expected = {
            "format": "html", "url": "http://example.org/i1", "columns": {"date": "2020-01-01T00:00:00Z"},
        }  # fmt: skip
        assert found[1].metadata == {"source": "laws", "lang": "zh"} | expected
    elif format == "xml":
        assert [d.text for d in found] == texts
        assert found[1].id == "laws.xml/1"
        url = "https://zh.wikipedia.org/wiki/%E7%AC%AC_1"
        expected = {"source": "laws", "lang": "zh", "format": "wiki", "url": url, "title": "第 1"}
        assert found[1].metadata == expected
    else:
        assert [d.text for d in found] == texts
        assert (found[1].id, found[1].metadata) == ("i1", {"source": "laws", "lang": "zh", "columns": {"n": 1}})


@pytest.mark.parametrize("compression", ["gz", "zst", "xz", "bz2"])
@pytest.mark.parametrize("format", ["jsonl", "xml", "txt"])
def test_compressed_and_misnamed(tmp_path, makers, compressors, texts, format, compression):
    content = makers[format](texts)
    plain = documents(write(tmp_path / f"a.{format}", content))
    half = len(content) // 2
    parts = compressors[compression](content[:half]) + compressors[compression](content[half:])
    for name in (f"a.{format}.{compression}", f"a.{format}", f"a.{format}.gz"):
        # Ids of records without one are made of the file's name.
        found = documents(write(tmp_path / name, parts))
        assert [(d.text, d.metadata) for d in found] == [(d.text, d.metadata) for d in plain]


def test_fields_of_a_row(tmp_path):
    row = {"body": "text", "key": 7, "source": "web", "lang": "en", "format": "html", "url": "u", "score": 0.5}
    odd = {"body": "text", "format": "markdown", "tags": ["x"], "source": None, "key": ""}
    file = write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + f"{json.dumps(row)}\n\n{json.dumps(odd)}\n".encode())
    first, second = documents(file, text_field="body", id_field="key", lang="zh", source="mine")
    assert (first.text, first.id) == ("text", "7")
    assert first.metadata == {"source": "web", "lang": "en", "format": "html", "url": "u", "columns": {"score": 0.5}}
    assert (second.id, second.metadata) == (
        "a.jsonl/3",
        {"source": "mine", "lang": "zh", "columns": {"format": "markdown"}},
    )
    (first, _) = documents(file, text_field="body", id_field="key", keep_columns=("other",))
    assert "columns" not in first.metadata


def test_one_task_a_file_reads_what_one_task_reads(tmp_path, makers, texts):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files += [str(write(tmp_path / folder / "x.xml", makers["xml"](texts)))]
    files += [str(write(tmp_path / "y.jsonl", makers["jsonl"](texts)))]
    alone = list(Reader(files)())
    assert len({d.id for d in alone}) == 36
    assert {d.id for d in alone} >= {"a/x.xml/1", "b/x.xml/1"}
    assert [d for rank in range(3) for d in Reader(files)(rank=rank, world_size=3)] == alone


def test_anywhere_fsspec_goes(makers, texts):
    for format in FORMATS:
        with fsspec.open(f"memory://raw/a.{format}", "wb") as file:
            file.write(makers[format](texts))  # pyright: ignore[reportAttributeAccessIssue]
        assert len(documents(f"memory://raw/a.{format}")) == (1 if format == "txt" else 12)


def test_pages_in_their_own_encodings(tmp_path, make_warc_record):
    chinese, french = "<p>国家鼓励开展活动，具体办法由国务院规定。</p>", "<p>déjà vu à Noël</p>"
    bodies = [
        (chinese.encode("gb18030"), "text/html; charset=gb2312"),
        ((f'<meta charset="gbk">{chinese}').encode("gb18030"), "text/html"),
        (chinese.encode("gb18030"), "text/html"),
        (chinese.encode("utf-8"), "text/html; charset=iso-8859-1"),
        (chinese.encode("utf-16"), "text/html"),
        (french.encode("cp1252"), "text/html; charset=iso-8859-1"),
        (chinese.encode("gb18030"), "text/html; charset=rot13"),
        (b"\x89PNG", "image/png"),
    ]
    content = b"".join(make_warc_record(str(n), *body) for n, body in enumerate(bodies))
    content += make_warc_record("w", chinese.encode(), "text/plain", "conversion")
    found = documents(write(tmp_path / "a.warc", content))
    expected = [chinese, f'<meta charset="gbk">{chinese}', chinese, chinese, chinese, french, chinese, chinese]
    assert [d.text for d in found] == expected
    assert found[-1].metadata["format"] == "text"


def test_a_page_chunked_and_compressed(tmp_path, make_warc_record):
    body = gzip.compress(b"<p>packed</p>")
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    content_type = "text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip"
    (found,) = documents(write(tmp_path / "a.warc", make_warc_record("1", chunked, content_type)))
    assert found.text == "<p>packed</p>"


def test_parquet_of_dictionaries_and_other_columns(tmp_path):
    columns = {"text": ["a", "a", None], "tags": [["x"], [], None], "score": [0.5, None, 1.0], "raw": [b"x", b"y", b""]}
    table = pyarrow.table(columns | {"source": pyarrow.array(["s", "s", "t"]).dictionary_encode()})
    file = io.BytesIO()
    parquet.write_table(table, file)
    found = documents(write(tmp_path / "a.parquet", file.getvalue()), on_bad="skip")
    assert [(d.id, d.metadata) for d in found] == [
        ("a.parquet/0", {"source": "s", "columns": {"score": 0.5}}),
        ("a.parquet/1", {"source": "s"}),
    ]


def test_a_text_column_of_bytes(tmp_path):
    columns = {"page": ["法律".encode(), b"\xff", None], "key": [b"a", b"b", b"c"], "image": [b"\x89"] * 3}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    path = write(tmp_path / "a.parquet", file.getvalue())
    found = documents(path, text_field="page", id_field="key", on_bad="skip")
    assert [(d.text, d.id, d.metadata) for d in found] == [("法律", "a", {"source": "a"})]


@pytest.mark.parametrize(
    "type", [pyarrow.large_binary(), pyarrow.binary(6), pyarrow.dictionary(pyarrow.int8(), "binary")]
)
def test_text_columns_of_all_kinds_of_bytes(tmp_path, type):
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": pyarrow.array(["法律".encode()]).cast(type)}), file)
    assert [document.text for document in documents(write(tmp_path / "a.parquet", file.getvalue()))] == ["法律"]


def test_a_text_column_of_another_type_is_named(tmp_path):
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [["a"]]}), file)
    with pytest.raises(ValueError, match=r"column `text` is of list<.*>, not of strings"):
        documents(write(tmp_path / "a.parquet", file.getvalue()))


def test_an_html_file_in_its_declared_encoding(tmp_path):
    page = '<html><head><meta charset="gbk"></head><body><p>国家鼓励开展活动，具体办法由国务院规定。</p></body></html>'
    (found,) = documents(write(tmp_path / "a.htm", page.encode("gb18030")))
    assert (found.text, found.metadata) == (page, {"source": "a", "format": "html"})


def test_languages_of_dumps_and_rows(tmp_path, makers, texts):
    dump = makers["xml"](texts).replace(b'xml:lang="zh"', b'xml:lang="lzh"')
    assert documents(write(tmp_path / "a.xml", dump))[0].metadata["lang"] == "zh"
    rows = [{"text": "x", "lang": lang} for lang in ("zh_Hans", "en-US", "und", "DE", 0)]
    file = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [d.metadata.get("lang") for d in documents(file)] == ["zh", "en", None, "de", None]
