"""Reading documents: accepted input, and the message for each bad input."""

import bz2
import gzip
import hashlib
import json
import lzma
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.text.documents import (
    Document,
    SeenIds,
    document_files,
    held_out,
    part_id,
    read_documents,
    write_json_lines,
)

GOOD = {"text": "第一条 为了保护……", "source": "laws", "lang": "zh", "id": "a"}


def write(path: Path, *lines: object) -> Path:
    """A file of these lines: bytes as they are, everything else as JSON."""
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def message(path: Path, **options) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        list(read_documents(path, **options))
    return str(error.value)


def test_plain_gzip_blank_lines_byte_order_mark_and_defaults(tmp_path):
    plain = write(tmp_path / "news.jsonl", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", {"text": "two", "id": 7})
    expected = [Document(GOOD["text"], "laws", "zh", "a"), Document("two", "news", "en", "7")]
    assert list(read_documents(plain, lang="en")) == expected
    packed = tmp_path / "news.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_documents(packed, lang="en")) == expected
    assert [d.source for d in read_documents(plain, lang="en", source="mine")] == ["laws", "mine"]


def test_a_line_without_id_is_named_by_its_text(tmp_path):
    lines = [{"text": "one", "lang": "en"}, {"text": "two", "lang": "en"}]
    there = {d.text: d.id for d in read_documents(write(tmp_path / "a.jsonl", *lines))}
    reordered = {d.text: d.id for d in read_documents(write(tmp_path / "b.jsonl", *lines[::-1]))}
    assert there == reordered and len(set(there.values())) == 2


BAD_LINES = {
    "not UTF-8": ("法律".encode("gb18030"), "not UTF-8 (byte 0xb7 at position 0)", "iconv -f GB18030"),
    "wrong JSON": (b'{"text": "cut', "wrong JSON at column", "one whole JSON object"),
    "endless JSON": (b"[" * 100_000, "JSON that cannot be read", "recursion"),
    "endless number": (b"1" * 5000, "JSON that cannot be read", "4300 digits"),
    "not an object": ([1, 2], "a JSON list where an object", '{"text": ...}'),
    "no text": ({"content": "x", "lang": "en"}, "no `text` (its fields: content, lang)", "rename the field"),
    "text not a string": ({"text": 3, "lang": "en"}, "`text` is a int, not a string", "`text`"),
    "empty text": ({"text": " \n", "lang": "en"}, "`text` is empty", "remove the line"),
    "no lang": ({"text": "x"}, "no `lang`", 'lang = "zh"'),
    "bad lang": (GOOD | {"id": "b", "lang": "../zh"}, "`lang` is '../zh'", "such as zh or en"),
    "bad id": (GOOD | {"id": True}, "`id` is a bool", "not a string or a number"),
    "duplicate id": (GOOD, "the id 'a' was seen before in source 'laws'", "remove one of the two"),
    "broken Unicode": ({"text": "\ud800", "lang": "en"}, "without its other half", "no UTF-8 text"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named_with_what_to_do(tmp_path, kind):
    line, what, advice = BAD_LINES[kind]
    told = message(write(tmp_path / "x.jsonl", GOOD, line))
    assert f"{tmp_path / 'x.jsonl'}, line 2: " in told and what in told and advice in told and "on_bad = 'skip'" in told


def test_a_text_of_null_is_not_called_missing(tmp_path):
    told = message(write(tmp_path / "x.jsonl", {"text": None, "lang": "en"}))
    assert "line 1: `text` is null; remove the line" in told


def test_skipping_counts_by_reason_and_yields_the_rest(tmp_path):
    lines = [line for line, _, _ in BAD_LINES.values()]
    skipped: Counter[str] = Counter()
    path = write(tmp_path / "x.jsonl", GOOD, *lines, GOOD | {"id": "b"})
    assert [d.id for d in read_documents(path, on_bad="skip", skipped=skipped)] == ["a", "b"]
    assert skipped == {kind: 1 for kind in BAD_LINES if not kind.startswith("endless")} | {"wrong JSON": 3}


def test_files_without_documents_raise(tmp_path):
    assert "there is no file" in message(tmp_path / "absent.jsonl")
    assert "is a folder" in message(tmp_path)
    assert "holds no document: the file is empty" in message(write(tmp_path / "empty.jsonl"))
    skipped = Counter({"bad id": 3})  # of an earlier file
    assert "holds no document: every line was left out (1 x no text, 1 x not an object)" in message(
        write(tmp_path / "bad.jsonl", {}, []), on_bad="skip", skipped=skipped
    )


def test_an_empty_file_is_skipped_where_bad_lines_are(tmp_path):
    skipped = Counter()
    for path in (write(tmp_path / "empty.jsonl"), write(tmp_path / "blank.jsonl", b"", b" ")):
        assert "the file is empty; it needs lines such as" in message(path)
        assert list(read_documents(path, on_bad="skip", skipped=skipped)) == []
    assert skipped == {"empty file": 2}


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        (lzma.compress(b"{}"), "xz"),
        (bz2.compress(b"{}"), "bzip2"),
        (bytes.fromhex("28b52ffd0400110000 7b7d"), "zstd"),
    ],
)
def test_a_file_of_another_compression_is_named(tmp_path, content, tool):
    (tmp_path / "a.jsonl").write_bytes(content)
    assert f"a.jsonl is compressed by {tool}, and only gzip is read: decompress it with {tool} -d" in message(
        tmp_path / "a.jsonl"
    )


def test_cut_and_damaged_gzip(tmp_path):
    rows = "".join(json.dumps({"text": f"{n * 7919 % 10007} words", "lang": "en"}) + "\n" for n in range(5000))
    packed = gzip.compress(rows.encode())
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    for on_bad in ("error", "skip"):
        assert "is cut off: the gzip file ends after line" in message(path, on_bad=on_bad)
    path.write_bytes(packed[:400] + b"\xff" * 40 + packed[440:])
    assert "is damaged after line" in message(path)


def test_duplicates_across_files_of_a_source(tmp_path):
    seen = SeenIds()
    list(read_documents(write(tmp_path / "1.jsonl", GOOD), seen=seen))
    assert "2.jsonl, line 1: the id 'a' was seen before" in message(write(tmp_path / "2.jsonl", GOOD), seen=seen)
    assert list(read_documents(write(tmp_path / "3.jsonl", GOOD | {"source": "other"}), seen=seen))


def test_wrong_setting(tmp_path):
    assert "on_bad must be 'error' or 'skip', not 'ignore'" in message(tmp_path / "x", on_bad="ignore")


@given(st.lists(st.integers(0, 60)))
def test_seen_ids_agree_with_a_set(numbers):
    seen, reference = SeenIds(), set()
    for n in numbers:
        assert seen.add("s", str(n)) == (n not in reference)
        reference.add(n)


def test_seen_ids_remember_what_has_settled():
    seen = SeenIds()
    assert all(seen.add("s", str(n)) for n in range(140_000))
    assert not any(seen.add("s", str(n)) for n in range(0, 140_000, 997))
    assert seen.add("other", "0")


def test_held_out_is_a_fixed_function_of_the_id():
    # sha256("a") begins ca978112ca1bbdca: 0.7914...
    assert held_out("a", 0.792) and not held_out("a", 0.791)
    share = sum(held_out(f"doc {n}", 0.05) for n in range(20_000)) / 20_000
    assert abs(share - 0.05) < 0.005
    assert not held_out("a", 0.0) and held_out("a", 1.0)
    with pytest.raises(ValueError, match="between 0 and 1, not 5"):
        held_out("a", 5)


def test_parts_of_a_document_are_on_its_side_of_the_split():
    for book in (f"book {n}" for n in range(200)):
        parts = [part_id(book, n) for n in range(1, 12)]
        # As ids are made unique: by number in a file, by the name of another file.
        parts += [f"{parts[0]}#7", f"{parts[1]}@more/books.txt"]
        assert {held_out(part, 0.3) for part in parts} == {held_out(book, 0.3)}
    others = ["book/party", "book/part1/a", "book/part", "book part1"]
    assert [held_out(id, 0.5) for id in others] == [
        int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]) < 1 << 63 for id in others
    ]


@given(st.text(min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_what_a_small_fraction_holds_out_a_larger_one_holds_out_too(id, a, b):
    assert held_out(id, max(a, b)) or not held_out(id, min(a, b))


@pytest.mark.parametrize(("source", "kind"), [(["a"], "bad source"), ({"a": 1}, "bad source"), (True, "bad source")])
def test_a_source_that_is_no_name(tmp_path, source, kind):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "t", "lang": "zh", "source": source}) + "\n")
    with pytest.raises(ValueError, match=f"`source` is a {type(source).__name__}, not a name"):
        list(read_documents(tmp_path / "a.jsonl"))
    (tmp_path / "nan.jsonl").write_text('{"text": "t", "lang": "zh", "source": NaN}\n')
    assert [one.source for one in read_documents(tmp_path / "nan.jsonl", source="pandas")] == ["pandas"]


def test_document_files(tmp_path):
    for name, told in [("absent", "there is no folder"), ("file.txt", "is a file"), (".", "holds no .jsonl")]:
        (tmp_path / "file.txt").touch()
        with pytest.raises((ValueError, OSError), match=told):
            document_files(tmp_path / name)
    for name in ("b.jsonl", "a.jsonl.gz"):
        (tmp_path / name).touch()
    assert [f.name for f in document_files(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]


def test_json_lines_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "x.jsonl"
    assert write_json_lines(path, [GOOD]) == 1
    before = path.read_bytes()
    assert json.loads(before) == GOOD and "第一条".encode() in before
    with pytest.raises(TypeError):
        write_json_lines(path, [{"text": "written"}, {"text": object()}])
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_ids_that_are_numbers(tmp_path):
    rows = [GOOD | {"text": str(n), "id": id} for n, id in enumerate((3, 4.0, 5.5, math.nan, "", None))]
    ids = [document.id for document in read_documents(write(tmp_path / "x.jsonl", *rows))]
    assert ids[:3] == ["3", "4", "5.5"] and len(set(ids)) == 6 and "nan" not in ids


def test_sources_and_languages_are_normalised(tmp_path):
    path = write(tmp_path / "Evening Post.v2.jsonl", {"text": "x", "lang": "en-GB"}, GOOD | {"source": "a/b c"})
    assert [(d.source, d.lang) for d in read_documents(path)] == [("Evening_Post.v2", "en"), ("a_b_c", "zh")]


@pytest.mark.parametrize("name", ["v1.5-web.jsonl", "v1.5-web.jsonl.gz", "v1.5-web.JSONL", ".v1.5-web.json"])
def test_a_source_has_the_whole_name_of_its_file(tmp_path, name):
    (document,) = read_documents(write(tmp_path / name, {"text": "x", "lang": "en"}))
    assert document.source == "v1.5-web"
