"""Detects the encoding of a text: UTF-8, GB18030 or Big5.

General detectors weigh a hundred encodings and take a short line of Chinese for Greek. With three, text decoded in the
right one consists of common characters, and in a wrong one of random, mostly rare ones.
"""

import codecs
import re
from collections import Counter
from functools import cache
from itertools import product

from mindllm_jax.text.json_lines import BadLine

_ENOUGH_BYTES = 1 << 16

# The most frequent characters of modern Chinese, in both scripts: half of any prose.
_FREQUENT = frozenset(
    "的一是不了在人有我他這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着下自之年过過发發"
    "后後作里裡用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心本前"
    "开開但因只从從想实實日军軍者意无無力它与與长長把机機十民第公此已工使情明性知全三又关關点點正业業外将將两兩高间間由"
    "问問很最重并並物手应應战戰向头頭文体體政美相见見被利什二等产產或新己制身果加西斯月话話合回特代内內信表化老给給世位次"
    "度门門任常先海通教儿兒原东東声聲提立及比员員解水名真论論处處走义義各入几幾口认認条條平系气氣题題活尔爾更别別打女变變"
    "四神总總何电電数數安少报報才结結反受目太量再感建务務做接必场場件计計管期市直德资資命山金指克许許统統区區保至队隊形社"
    "便空决決治展马馬科司五基眼书書非则則听聽白却卻界达達光放强強即像难難且权權思王象完设設式色路记記南品住告类類求据據程"
    "北边邊死张張该該交规規万萬取拉格望觉覺术術领領共确確传傳师師观觀清今切院让讓识識候带帶导導争爭运運"
    "，。、；：？！“”‘’（）《》〈〉【】「」『』—…·　〔〕％～"
)
# Measured: from 20 characters on, right encodings have a share of common characters of 0.8 to 1, wrong ones under 0.75.
_COMMON_ENOUGH = 0.8
_FREQUENT_ENOUGH = 0.1
_AHEAD = 0.2
# Bytes that no text has, and their share above which a document is binary.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROLS = 0.01
# Encodings of web pages whose label means a larger one, as in the Encoding Standard (encoding.spec.whatwg.org).
_WIDER = {
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb_2312-80", "csgb2312", "cp936", "chinese"), "gb18030"),
    **dict.fromkeys(("big5", "cn-big5", "x-x-big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "l1", "ascii", "us-ascii"), "cp1252"),
}


@cache
def _common() -> frozenset[str]:
    """Returns the common characters: the first levels of GB2312 (3,755 characters) and Big5 (5,401)."""
    simplified = product(range(0xB0, 0xD8), range(0xA1, 0xFF))
    traditional = product(range(0xA4, 0xC7), [*range(0x40, 0x7F), *range(0xA1, 0xFF)])
    return _FREQUENT.union(
        *(bytes(pair).decode("gb2312", "ignore") for pair in simplified),
        *(bytes(pair).decode("big5", "ignore") for pair in traditional),
    )


def detect(sample: bytes) -> str | None:
    """Returns the encoding of a text: "utf-8", "gb18030", "big5hkscs", or None if none fits.

    Single-byte encodings (Latin-1, cp1252, KOI8, …) are never guessed: every file is valid in all of them.

    Args:
        sample: bytes of the text; it begins with a complete character, may end within one, and may have a few broken
            ones.
    """
    beyond_ascii = re.search(rb"[\x80-\xff]", sample)
    if beyond_ascii is None:
        return "utf-8"
    sample = sample[beyond_ascii.start() :][:_ENOUGH_BYTES]
    decoded = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    broken = decoded.count("\ufffd")
    whole = len(decoded) - len(decoded.encode("ascii", "ignore")) - broken
    if broken == 0 < whole:
        return "utf-8"
    (second, _), (best, encoding) = sorted((_plausible(sample, e), e) for e in ("gb18030", "big5hkscs"))
    common, frequent = best
    if common < _COMMON_ENOUGH or frequent < _FREQUENT_ENOUGH or sum(best) - sum(second) < _AHEAD:
        return "utf-8" if broken < whole else None
    return encoding


def _plausible(sample: bytes, encoding: str) -> tuple[float, float]:
    """Returns the shares of common and of frequent characters among those beyond ASCII."""
    decoded = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    counts = {character: n for character, n in Counter(decoded).items() if character > "\x7f"}
    total = max(1, sum(counts.values()))
    common, frequent = (
        sum(n for character, n in counts.items() if character in known) / total for known in (_common(), _FREQUENT)
    )
    return common, frequent


def decode(content: bytes, declared: str | None = None) -> str:
    """Decodes a document as browsers do: U+FFFD for what is invalid, windows-1252 if nothing else fits.

    A byte-order mark and UTF-8 take precedence over the declared encoding, which is often wrong; a detected encoding is
    used if the declared one is unknown or does not fit.

    Raises:
        BadLine: the document is binary.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    label = _python_name(declared)
    if label is not None and re.match("utf.?(16|32)", label) and b"\0" in content:
        return content.decode(label, "replace")
    controls = len(content) - len(content.translate(None, _CONTROLS))
    if controls > _MAX_CONTROLS * len(content):
        position = next(n for n, byte in enumerate(content) if byte in _CONTROLS)
        kind = "NUL bytes" if b"\0" in content else "binary"
        raise BadLine(kind, f"a control character at position {position} and {controls - 1} more: damaged or binary")
    content = content.replace(b"\0", b"")
    detected = detect(content)
    if detected == "utf-8":
        return content.decode("utf-8-sig", "replace")
    # Whatever a page says, it is not in UTF-8 if most of its characters are invalid there.
    names = [name for name in (label, detected) if name is not None and not re.match("utf.?8", name)] or ["cp1252"]
    texts = (content.decode(name, "replace") for name in names)
    return min(texts, key=lambda text: text.count("\ufffd"))


def declared_charset(page: bytes) -> str | None:
    """Returns the encoding that a page declares in its head, as a label of the web."""
    declared = re.search(rb"<meta[^>]{,200}charset\s*=\s*[\"']?([\w-]+)", page[:2048], re.I)
    return declared[1].decode("ascii", "ignore") if declared else None


def _python_name(label: str | None) -> str | None:
    """Returns Python's name of a web label; pages that declare a subset use the full encoding."""
    if label is None:
        return None
    label = label.strip(" \t\r\n\"'").lower()
    label = _WIDER.get(label, label)
    try:
        # Some codecs ("rot13", "zlib") do not decode bytes to text.
        return label if codecs.lookup(label)._is_text_encoding else None  # pyright: ignore[reportAttributeAccessIssue]
    except (LookupError, ValueError):
        return None
