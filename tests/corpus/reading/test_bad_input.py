"""Damaged files of every format: the error names the damage, and other documents are kept."""

import gzip
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mindllm_jax.corpus.outcomes import recorded
from mindllm_jax.corpus.reading.reader import Reader

FORMATS = ["jsonl", "parquet", "xml", "warc", "warc.gz", "warc.zst", "txt"]


def skipping(path: Path, **options) -> tuple[list, dict[str, tuple[int, int]]]:
    """The documents, and the bad pieces by kind as (count, bytes)."""
    reader = Reader([str(path)], on_bad="skip", **options)
    documents = list(reader())
    return documents, {bad.reason: (bad.documents, bad.bytes) for bad in recorded(reader) if bad.kind == "unreadable"}


def message(path: Path, **options) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        list(Reader([str(path)], **options)())
    return str(error.value)


def check(path: Path, content: bytes, kinds: set[str], expected: int | None, *told: str, **options) -> None:
    """Both choices: skipping keeps `expected` documents and counts `kinds`; otherwise the message tells `told`."""
    path.write_bytes(content)
    documents, bad = skipping(path, **options)
    assert set(bad) == kinds
    assert expected is None or len(documents) == expected
    text = message(path, **options)
    assert all(part in text for part in told), text


def test_zstd_with_a_long_window(tmp_path: Path) -> None:
    """As `zstd --long=28` writes it."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(frame.compress(b'{"text": "one"}') + frame.flush())
    assert [document.text for document in Reader([str(tmp_path / "a.jsonl.zst")])()] == ["one"]


AGAIN = "fetch it again, or leave it out before the first run"


@pytest.mark.parametrize("format", FORMATS)
def test_empty(tmp_path, format):
    check(tmp_path / f"a.{format}", b"", {"empty"}, 0, f"it is empty; {AGAIN}")
    check(tmp_path / f"b.{format}.gz", gzip.compress(b""), {"empty"}, 0, f"it is empty; {AGAIN}")


@pytest.mark.parametrize(("format", "kinds", "expected"), [
    ("jsonl", {"wrong JSON"}, 11),
    ("parquet", {"damaged"}, 0),
    ("xml", {"cut"}, 11),
    ("warc", {"damaged"}, 11),
    ("warc.gz", {"damaged"}, 11),
    ("warc.zst", {"damaged"}, 11),
])  # fmt: skip
def test_cut_in_the_middle(tmp_path, makers, texts, format, kinds, expected):
    content = makers[format](texts)[:-30]
    check(tmp_path / f"a.{format}", content, kinds, expected, "fetch" if format != "jsonl" else "line 12")


@pytest.mark.parametrize("compression", ["gz", "zst", "xz", "bz2"])
def test_compressed_and_cut_or_damaged(tmp_path, compressors, compression):
    lines = [json.dumps({"text": str(n**99)}).encode() + b"\n" for n in range(4000)]
    packed = b"".join(compressors[compression](b"".join(lines[n : n + 400])) for n in range(0, 4000, 400))
    path = tmp_path / f"a.jsonl.{compression}"
    path.write_bytes(packed[: len(packed) // 2])
    documents, bad = skipping(path)
    assert 1600 <= len(documents) <= 2400 and bad == {"cut": (1, 0)}
    damaged = bytearray(packed)
    damaged[len(packed) // 2 : len(packed) // 2 + 40] = b"x" * 40
    path.write_bytes(damaged)
    documents, bad = skipping(path)
    assert 1600 <= len(documents) <= 2400 and "damaged" in bad
    path.write_bytes(packed + b"\0" * 512)
    assert len(skipping(path)[0]) == 4000
    path.write_bytes(packed + b"trailing garbage")
    documents, bad = skipping(path)
    assert len(documents) == 4000 and bad == {"damaged": (1, 0)}


@pytest.mark.parametrize("format", FORMATS)
def test_wrong_magic(tmp_path, format):
    kinds = {"jsonl": "NUL bytes", "txt": "NUL bytes", "parquet": "wrong magic", "xml": "wrong magic"}
    check(tmp_path / f"a.{format}", b"\x7fELF\0\0\1 not what it says", {kinds.get(format, "damaged")}, 0, f"a.{format}")


@pytest.mark.parametrize("format", FORMATS)
def test_archives_and_double_compression(tmp_path, makers, compressors, texts, format):
    content = makers[format](texts)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", content)
    check(tmp_path / f"a.{format}", archive.getvalue(), {"archive"}, 0, "a zip archive; unpack it")
    tar = b"name".ljust(257, b"\0") + b"ustar" + bytes(250) + content
    check(tmp_path / f"a.{format}.gz", gzip.compress(tar), {"archive"}, 0, "a tar archive; unpack it")
    for name, compress in compressors.items():
        packed = gzip.compress(compress(content))
        check(tmp_path / f"a.{format}.{name}.gz", packed, {"nested"}, 0, "data inside gzip data; decompress it once")


def test_nested_compression_is_unreadable(tmp_path, makers, compressors, texts):
    check(tmp_path / "a.gz", gzip.compress(makers["parquet"](texts)), {"nested"}, 0, "parquet inside gzip data")
    check(tmp_path / "a.bz2", compressors["bz2"](makers["warc"](texts)), {"nested"}, 0, "compress it with gzip")


def test_an_unknown_suffix(tmp_path, makers, texts):
    check(tmp_path / "table.csv", b"a,b\n1,2\n", {"unknown format"}, 0, "neither its first bytes nor its name")
    (tmp_path / "part-0").write_bytes(makers["jsonl"](texts))
    assert len(skipping(tmp_path / "part-0")[0]) == 12


GOOD = b'{"text": "kept"}'
BAD_LINES = {
    "wrong JSON": (b'{"text": "cut', "wrong JSON at column"),
    "NUL bytes": (b'{"text": "a\0b"}', "NUL bytes"),
    "no text": (b'{"content": "x"}', "no `text` (its fields: content)"),
    "not an object": (b'["text"]', "a JSON list where an object"),
    "text not a string": (b'{"text": 3}', "`text` is a int"),
    "empty text": (b'{"text": " "}', "`text` is empty"),
    "broken Unicode": (rb'{"text": "x\ud800"}', "without its other half"),
    "not UTF-8": (b'{"text": "caf\xe9"}', "not UTF-8 (byte 0xe9 at position 13)"),
    "bad id": (b'{"text": "x", "id": ["x"]}', "`id` is a list"),
    "too long": (b'{"text": "' + b"x" * 2000 + b'"}', "2,013 bytes, more than the 1,000"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named_and_the_others_are_kept(tmp_path, kind):
    line, told = BAD_LINES[kind]
    content = b"\n".join([GOOD, line, '{"text": "è 法律"}'.encode(), GOOD, b""])
    check(tmp_path / "a.jsonl", content, {kind}, 3, "a.jsonl, line 2: ", told, max_document_bytes=1000)
    assert skipping(tmp_path / "a.jsonl", max_document_bytes=1000)[1] == {kind: (1, len(line) + 1)}


def test_a_file_without_documents_is_reported(tmp_path):
    check(tmp_path / "a.jsonl", b"\n \n", {"no document"}, 0, f"no document; {AGAIN}")
    check(tmp_path / "a.txt", b" \n", {"no document"}, 0, f"no document; {AGAIN}")
    check(tmp_path / "a.xml", b"<mediawiki></mediawiki>", {"no document"}, 0, f"no document; {AGAIN}")


def test_bad_text_files(tmp_path):
    broken = "为了保护公民的合法权益，制定本法。" * 9
    check(tmp_path / "a.txt", b"a\0b", {"NUL bytes"}, 0, "a control character at position 1 and 0 more")
    for name, encoding in (("b.txt", "utf-8"), ("c.txt", "gb18030")):
        (tmp_path / name).write_bytes(broken.encode(encoding) + b"\xff" + broken.encode(encoding))
        assert [d.text for d in Reader([str(tmp_path / name)])()] == [f"{broken}\ufffd{broken}"]
    (tmp_path / "e.txt").write_bytes("deux étés".encode("cp1252"))
    assert [d.text for d in Reader([str(tmp_path / "e.txt")])()] == ["deux étés"]
    check(tmp_path / "d.txt", b"x" * 2000, {"too long"}, 0, "2,000 bytes, more than", max_document_bytes=1000)
    check(tmp_path / "f.txt", "中文".encode("utf-16")[:-1], {"cut"}, 0, "in the middle of a character")


def test_a_damaged_page_takes_no_other_with_it(tmp_path, makers, texts):
    content = makers["xml"](texts)
    path = tmp_path / "a.xml"
    check(path, content.replace(b"<id>5</id>", b"<id>5&bad;</id>"), {"wrong XML"}, 11, "page 8: wrong XML")
    check(path, content.replace(b"<id>5</id>", b"<id>5\0</id>"), {"wrong XML"}, 11, "page 8: wrong XML")
    no_end = content.replace("第5条".encode(), b"</text></revision>", 1).replace(b"</page>", b"", 6)
    check(path, no_end, {"wrong XML"}, None, "a page without its end")
    long = content.replace("第5条".encode(), b"x" * 400_000)
    check(path, long, {"too long"}, 11, "page 8: 400,", max_document_bytes=1000)
    check(path, long, {"too long"}, 11, max_document_bytes=20_000)


@pytest.mark.parametrize("format", ["warc", "warc.gz"])
def test_a_damaged_record_takes_no_other_with_it(tmp_path, makers, texts, make_warc_record, format):
    pack = gzip.compress if format == "warc.gz" else bytes
    records = [make_warc_record(f"i{n}", text.encode(), "text/plain") for n, text in enumerate(texts)]
    good, packed = records[5], pack(records[5])
    damaged = {
        "cut": packed[:-60],
        "no version": pack(good.replace(b"WARC/1.0", b"XXXX/1.0")),
        "length of letters": pack(good.replace(b"Content-Length: ", b"Content-Length: x", 1)),
        "too short a length": pack(re.sub(rb"Content-Length: \d+", b"Content-Length: 9", good, count=1)),
        "too long a length": pack(re.sub(rb"Content-Length: \d+", b"Content-Length: 400", good, count=1)),
        "endless length": pack(re.sub(rb"Content-Length: \d+", b"Content-Length: 99999999", good, count=1)),
        "garbage": b"\xff" * 5000,
        "flipped": packed[:100] + bytes([packed[100] ^ 0xFF, packed[101] ^ 0xFF]) + packed[102:],
    }
    # Whether compressed data is whole, only its checksum can say, and how long it is, only its end.
    del damaged["flipped" if format == "warc" else "endless length"]
    for what, piece in damaged.items():
        path = tmp_path / f"a.{format}"
        path.write_bytes(b"".join([*map(pack, records[:5]), piece, *map(pack, records[6:])]))
        documents, bad = skipping(path)
        assert [d.id for d in documents if d.id != "i5"] == [f"i{n}" for n in range(12) if n != 5], what
        assert bad, what
        assert "byte" in message(path)


def test_a_damaged_row_group_takes_no_other_with_it(tmp_path):
    file = io.BytesIO()
    values = [f"{n}-" + "x" * 100 for n in range(3000)]
    parquet.write_table(
        pyarrow.table({"text": values}), file, row_group_size=1000, use_dictionary=False, write_page_checksum=True,
        compression="gzip",
    )  # fmt: skip
    content = bytearray(file.getvalue())
    start = parquet.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(0).data_page_offset
    content[start + 2000 : start + 2030] = b"\xff" * 30
    check(tmp_path / "a.parquet", bytes(content), {"damaged"}, 2000, "row group 1: damaged after 0 of its 1000 rows")
    documents, _ = skipping(tmp_path / "a.parquet")
    assert [d.id for d in documents[999:1001]] == ["a.parquet/999", "a.parquet/2000"]


def test_bad_rows_and_columns_of_parquet(tmp_path):
    def table(columns) -> bytes:
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), file)
        return file.getvalue()

    path = tmp_path / "a.parquet"
    check(path, table({"body": ["x"]}), {"no text"}, 0, "no column of strings `text` (its columns: body)")
    check(path, table({"text": [1]}), {"text not a string"}, 0, "row 0: `text` is a int")
    check(path, table({"text": ["a", None, "b"]}), {"no text"}, 2, "row 1: `text` is null")
    check(path, table({"text": ["a", "b" * 2000]}), {"too long"}, 1, "row 1: 2,000 bytes", max_document_bytes=1000)
    offsets, data = pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"a\xff")
    broken = pyarrow.StringArray.from_buffers(2, offsets, data)
    check(path, table({"text": broken}), {"not UTF-8"}, 1, "row 1: a string that is not UTF-8")


def test_a_missing_file_raises_and_is_never_skipped(tmp_path):
    for on_bad in ("error", "skip"):
        with pytest.raises(FileNotFoundError, match=r"gone\.jsonl"):
            list(Reader([str(tmp_path / "gone.jsonl")], on_bad=on_bad)())


LONG = """
import gzip, resource, sys
from mindllm_jax.corpus.outcomes import recorded
from mindllm_jax.corpus.reading.reader import Reader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reader = Reader([sys.argv[1]], on_bad="skip", max_document_bytes=1 << 20)
documents = list(reader())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(documents), recorded(reader)[0].bytes, after - before)
"""


@pytest.mark.parametrize("format", ["jsonl", "txt", "xml", "warc"])
def test_200_megabytes_in_one_piece_take_no_memory(tmp_path, makers, texts, make_warc_record, format):
    path = tmp_path / f"a.{format}.gz"
    before, _, after = {
        "jsonl": lambda: (GOOD + b'\n{"text": "', b"", b'"}\n' + GOOD),
        "txt": lambda: (b"", b"", b""),
        "xml": lambda: makers["xml"](texts).partition("第5条".encode()),
        "warc": lambda: (
            make_warc_record("a", b"x") + re.sub(rb"h: \d+", b"h: 200000000", make_warc_record("b", b""), count=1),
            b"",
            b"",
        ),
    }[format]()
    with gzip.GzipFile(path, "wb", compresslevel=1) as file:
        file.write(before)
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(after)
    done = subprocess.run([sys.executable, "-c", LONG, path], capture_output=True, text=True, check=True)
    documents, size, grown = map(int, done.stdout.split())
    assert documents == {"jsonl": 2, "txt": 0, "xml": 11, "warc": 1}[format]
    assert size == pytest.approx(200_000_000, rel=0.001)
    assert grown < 60_000  # KiB


@st.composite
def mutated(draw, makers, compressors, texts) -> tuple[str, bytes]:
    """A name and the content of a file that began as a good one."""
    format = draw(st.sampled_from(FORMATS))
    content = makers[format](texts) if draw(st.integers(0, 9)) else draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        content = content[:place] + draw(st.binary(max_size=12)) + content[place + length :]
    compression = draw(st.sampled_from(["", "", *compressors]))
    if compression:
        content = compressors[compression](content)
    if draw(st.booleans()):
        content = content[: draw(st.integers(0, len(content)))]
    return f"a.{format}", content


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_the_bytes(tmp_path, makers, compressors, texts, data):
    name, content = data.draw(mutated(makers, compressors, texts))
    path = tmp_path / name
    path.write_bytes(content)
    documents, bad = skipping(path)
    for document in documents:
        document.text.encode()
        json.dumps(document.metadata, ensure_ascii=False).encode()
    assert documents or bad
    if bad:
        message(path)
    else:
        assert list(Reader([str(path)])()) == documents
