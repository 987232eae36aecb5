"""Encodings are detected, and unknown ones are not guessed."""

import json

import pytest

from mindllm_jax.corpus.outcomes import recorded
from mindllm_jax.corpus.reading.encodings import decode, detect
from mindllm_jax.corpus.reading.reader import Reader
from mindllm_jax.text.json_lines import BadLine

SIMPLIFIED = """为了保护民事主体的合法权益，调整民事关系，维护社会和经济秩序，根据宪法，制定本法。
民法调整平等主体的自然人、法人和非法人组织之间的人身关系和财产关系。话说天下大势，分久必合，合久必分。
这本书质量不错，送货也很快，就是包装差了一点，下次还会再买。今天股市收盘上涨，投资者对未来的市场表示乐观。"""
TRADITIONAL = """為了保護民事主體的合法權益，調整民事關係，維護社會和經濟秩序，根據憲法，制定本法。
話說天下大勢，分久必合，合久必分。
這本書品質不錯，送貨也很快，就是包裝差了一點，下次還會再買。今天股市收盤上漲，投資者對未來的市場表示樂觀。"""
FRENCH = "Ce résumé présente la société, où l'été s'achève déjà à Noël. Voilà une idée générale: façon, élève, café."
GERMAN = "Die Größe der Straße überrascht viele Gäste; schöne Häuser, grüne Wälder für Köln, Äpfel übrigens und Öl."


def windows(text: str, encoding: str, size: int) -> list[bytes]:
    pieces = [text[start : start + size] for start in range(0, max(1, len(text) - size), max(1, size // 3))]
    return [piece.encode(encoding) for piece in pieces if not piece.isascii()]


@pytest.mark.parametrize("size", [12, 40, 120])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SIMPLIFIED, "gb18030"), (TRADITIONAL, "gb18030"), (TRADITIONAL, "big5hkscs"), (SIMPLIFIED, "utf-8"),
        (FRENCH, "utf-8"),
    ],
)  # fmt: skip
def test_chinese_is_recognised_from_a_dozen_characters(text, encoding, size):
    assert {detect(piece) for piece in windows(text, encoding, size)} == {encoding}


@pytest.mark.parametrize("size", [5, 12, 40, 100])
@pytest.mark.parametrize("text", [FRENCH, GERMAN])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_western_text_is_never_taken_for_chinese(text, encoding, size):
    assert {detect(piece) for piece in windows(text, encoding, size)} <= {None}


def test_samples_that_are_cut_damaged_or_mixed():
    assert detect(SIMPLIFIED.encode()[:-1]) == "utf-8"
    assert detect(SIMPLIFIED.encode("gb18030")[:-1]) == "gb18030"
    assert detect(SIMPLIFIED.encode() + b"\xff\xfe\xff" + SIMPLIFIED.encode()) == "utf-8"
    assert detect(b"ASCII for long. " * 100_000 + SIMPLIFIED.encode("gb18030")) == "gb18030"
    assert detect(b"") == detect(b"ASCII") == "utf-8"
    # Two characters are enough when they are frequent ones, in an encoding where they are.
    assert detect("你好".encode("gb18030")) == "gb18030"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "big5hkscs"])
def test_whole_documents(encoding):
    assert decode(TRADITIONAL.encode(encoding)) == TRADITIONAL


def test_a_declared_encoding_is_used_where_it_can_be_true():
    assert decode(FRENCH.encode("cp1252"), "ISO-8859-1") == FRENCH
    assert decode(SIMPLIFIED.encode("gb18030"), "utf-8") == SIMPLIFIED
    assert decode(SIMPLIFIED.encode(), "gb2312") == SIMPLIFIED
    assert decode(SIMPLIFIED.encode("gb18030"), "no such thing \0") == SIMPLIFIED


def test_decoding_is_that_of_browsers():
    assert decode(FRENCH.encode("cp1252")) == FRENCH
    assert decode(FRENCH.encode("cp1252"), "utf-8") == FRENCH
    assert decode(FRENCH.encode("utf-16-le"), "utf-16le") == FRENCH
    assert decode(SIMPLIFIED.encode()[:-1]) == SIMPLIFIED[:-1] + "\ufffd"
    for encoding in ("utf-8", "gb18030"):
        broken = SIMPLIFIED[:9].encode(encoding) + b"\xff" + SIMPLIFIED[9:].encode(encoding)
        for declared in (None, encoding, "gb2312"):
            assert decode(broken, declared) == f"{SIMPLIFIED[:9]}\ufffd{SIMPLIFIED[9:]}"
    assert decode(b"a page of many words\0" + b"with one zero byte " * 9).startswith("a page of many wordswith")
    with pytest.raises(BadLine, match="a control character at position 4 and 39 more: damaged or binary"):
        decode(b"\x89PNG" + b"\0\1" * 20)


@pytest.mark.parametrize("encoding", ["gb18030", "big5hkscs", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_files_are_converted(tmp_path, encoding, name):
    text = TRADITIONAL
    if name == "a.jsonl":
        rows = [{"text": "begins with ASCII"}, *({"text": line} for line in text.splitlines()), {"text": "end"}]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = [document.text for document in Reader([str(tmp_path / name)])()]
    expected = ["begins with ASCII", *TRADITIONAL.splitlines(), "end"] if name == "a.jsonl" else [TRADITIONAL]
    assert found == expected


def test_a_broken_line_of_a_converted_file_is_reported_and_the_others_kept(tmp_path):
    lines = [f'{{"text": "{line}"}}'.encode("gb18030") for line in SIMPLIFIED.splitlines()]
    lines[1:1] = [b'{"text": "\xff"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    reader = Reader([str(tmp_path / "a.jsonl")], on_bad="skip")
    assert [document.text for document in reader()] == SIMPLIFIED.splitlines()
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: not GB18030 \(byte 0xff at position 10\)"):
        list(Reader([str(tmp_path / "a.jsonl")])())


def test_lines_of_ascii_are_kept_if_the_encoding_is_unknown(tmp_path):
    lines = [{"text": "ASCII"}, {"text": FRENCH}, {"text": "more"}, {"text": GERMAN}]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode("cp1252")
    (tmp_path / "a.jsonl").write_bytes(content)
    reader = Reader([str(tmp_path / "a.jsonl")], on_bad="skip")
    assert [document.text for document in reader()] == ["ASCII", "more"]
    assert [(o.source, o.kind, o.reason, o.documents) for o in recorded(reader)] == [
        ("a", "unreadable", "not UTF-8", 2)
    ]
