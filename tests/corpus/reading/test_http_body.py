"""Bodies of HTTP responses: what the headers say and what the bodies are."""

import gzip
import zlib

import brotli
import pytest
import zstandard

from mindllm_jax.corpus.reading.http_body import decode_body, split_response
from mindllm_jax.corpus.reading.reader import Reader

PAGE = ("<html><body>" + "<p>河水从桥下流过。The river runs under the bridge.</p>" * 40 + "</body></html>").encode()
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(PAGE) + RAW.flush()
CODINGS = {
    "gzip": gzip.compress(PAGE),
    "x-gzip": gzip.compress(PAGE),
    "deflate": zlib.compress(PAGE),
    "Deflate": DEFLATED,
    "br": brotli.compress(PAGE),
    "zstd": zstandard.compress(PAGE),
    "identity": PAGE,
    "": PAGE,
}


def chunked(body: bytes, size: int = 100) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;name=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("coding", CODINGS)
def test_what_the_header_says(coding: str) -> None:
    assert decode_body(CODINGS[coding], "", coding, 1 << 20) == PAGE
    assert decode_body(chunked(CODINGS[coding]), "chunked", coding, 1 << 20) == PAGE


@pytest.mark.parametrize("coding", [*CODINGS, "UTF-8", "none", "text/html", "gzip, deflate", "compress"])
@pytest.mark.parametrize("body", [PAGE, "第一条，河水从桥下流过。".encode(), b"plain words, no markup at all"])
def test_a_plain_body_under_any_header(coding: str, body: bytes) -> None:
    assert decode_body(body, "", coding, 1 << 20) == body
    assert decode_body(body, "chunked", coding, 1 << 20) == body


def test_several_codings_and_none_in_the_header() -> None:
    assert decode_body(gzip.compress(zlib.compress(PAGE)), "", "deflate, gzip", 1 << 20) == PAGE
    assert decode_body(CODINGS["gzip"], "", "", 1 << 20) == PAGE
    assert decode_body(gzip.compress(CODINGS["gzip"]), "", "gzip", 1 << 20) == PAGE


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate", "br"])
def test_what_precedes_a_cut_is_kept(coding: str) -> None:
    words = " ".join(str(n * n) for n in range(3000)).encode()
    raw = zlib.compressobj(wbits=-15)
    body = {
        "gzip": gzip.compress(words),
        "deflate": zlib.compress(words),
        "Deflate": raw.compress(words) + raw.flush(),
        "br": brotli.compress(words),
    }[coding]
    content = decode_body(body[: len(body) // 2], "", coding, 1 << 20)
    assert words.startswith(content) and len(content) > len(words) // 4
    cut = chunked(words)[:5000]
    assert words.startswith(decode_body(cut, "chunked", "", 1 << 20))


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)]
)
def test_a_bomb_is_not_decompressed(coding: str, compress) -> None:
    assert 1000 < len(decode_body(compress(bytes(50_000_000)), "", coding, 1000)) < 5_000_000


def test_pages_of_a_crawl(tmp_path, make_warc_record) -> None:
    headers = [
        "Content-Encoding: gzip",
        "Transfer-Encoding: chunked",
        "Content-Encoding: br",
        "Content-Encoding: UTF-8",
    ]
    records = [make_warc_record(str(n), PAGE, f"text/html\r\n{header}") for n, header in enumerate(headers)]
    records.append(make_warc_record("raw", DEFLATED, "text/html\r\nContent-Encoding: deflate"))
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    assert [d.text.encode() for d in Reader([str(tmp_path / "a.warc")])()] == [PAGE] * 5


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_response_with_either_line_end(end: str) -> None:
    lines = ["HTTP/1.0 200", "Content-type:text/html; charset=x", "X: a", "  folded", "", ""]
    response = split_response(end.join(lines).encode() + PAGE)
    assert response is not None
    assert (response.status, response.body) == (200, PAGE)
    assert response.headers["content-type"] == "text/html; charset=x"
    assert split_response(PAGE) is None


def test_pages_without_a_type(tmp_path, make_warc_record) -> None:
    page = b"<!-- cached --> <HTML><body><p>The river runs under the bridge.</p></body></HTML>"
    typed = make_warc_record("typed", page, "text/html")
    header = b"Content-Type: text/html\r\n"
    other = b"X-Any-Header: any-thing\r\n"
    assert typed.count(header) == 1 and len(other) == len(header)
    picture = make_warc_record("picture", b"\x89PNG", "text/html").replace(header, other)
    untyped = make_warc_record("untyped", page, "text/html").replace(header, other)
    (tmp_path / "a.warc").write_bytes(typed + untyped + picture)
    assert [document.text.encode() for document in Reader([str(tmp_path / "a.warc")])()] == [page, page]
