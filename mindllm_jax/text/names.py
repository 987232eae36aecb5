"""Names of sources and codes of languages: one rule for given names and for those made from a file's name."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# A file system takes 255 bytes; a stray document's source has a prefix before its name.
_MAX_BYTES = 160
_CODES = {
    **dict.fromkeys(("zho", "chi", "cmn", "cn", "yue", "wuu", "gan", "hak", "nan", "lzh", "chinese", "mandarin"), "zh"),
    **dict.fromkeys(
        ("simplified chinese", "traditional chinese", "中文", "汉语", "漢語", "简体中文", "繁體中文"), "zh"
    ),
    **dict.fromkeys(("eng", "english", "英文", "英语", "英語"), "en"),
}
# Tags of ISO 639 and of data sets for texts whose language is not known.
_UNKNOWN = {"und", "mul", "zxx", "mis", "unknown", "none", "null", "nan", "other", "mixed", "multi"}


@lru_cache(4096)  # documents in a row have the same
def source_name(name: str) -> str:
    """Returns a name as that of a source, which is a part of file names: the name itself if it can be one.

    White space, slashes, controls and broken Unicode become `_`, leading dots go, and what is longer than 160 bytes
    ends in a hash. No name becomes "unnamed".
    """
    name = "".join(character if character.isprintable() else " " for character in unicodedata.normalize("NFC", name))
    name = re.sub(r"[\s/\\]+", "_", name.strip().lstrip(". "))
    if len(content := name.encode()) > _MAX_BYTES:
        name = content[: _MAX_BYTES - 9].decode(errors="ignore") + "_" + hashlib.sha256(content).hexdigest()[:8]
    return name or "unnamed"


def is_source_name(name: str) -> bool:
    """Whether a source can have this name as it is."""
    return source_name(name) == name


def require_source_names(setting: str, names: Iterable[str]) -> None:
    """Raises ValueError for a name that no document can have, because the pipeline writes it another way."""
    for name in names:
        if not is_source_name(name):
            raise ValueError(
                f"{setting}: {name!r} cannot be the name of a source; documents have {source_name(name)!r}"
            )


def language_code(tag: object) -> str | None:
    """Returns the code of a language, `zh` or `en` for all tags of the two (zh-CN, zh_Hans, cmn, en-US, English).

    Other tags become their first part in lower case; None if the tag names no language (und, unknown, a number).
    """
    return _code(tag) if isinstance(tag, str) else None


@lru_cache(4096)
def _code(tag: str) -> str | None:
    tag = tag.strip().lower()
    first = re.split(r"[-_.@ (]", tag, maxsplit=1)[0]
    code = _CODES.get(tag) or _CODES.get(first, first)
    return code if re.fullmatch("[a-z]{2,8}", code) and code not in _UNKNOWN else None
