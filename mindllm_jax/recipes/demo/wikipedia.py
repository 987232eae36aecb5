"""Reads the articles of a Wikipedia dump."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mindllm_jax.corpus.filters.wikitext import ArticleSection, parse_article
from mindllm_jax.corpus.reading.mediawiki import read_wiki
from mindllm_jax.corpus.reading.records import Bad, BadFile
from mindllm_jax.corpus.reading.streams import unpacked
from mindllm_jax.text.documents import Document

_LONGEST = 32 << 20  # bytes of an article


@dataclass(frozen=True, slots=True)
class Article:
    """A revision of an article; https://en.wikipedia.org/?oldid=REVISION shows it and its authors."""

    title: str
    revision: int
    sections: tuple[ArticleSection, ...]

    @property
    def id(self) -> str:
        return f"wikipedia_en/{self.title}@{self.revision}"

    def document(self) -> Document:
        parts = [self.title]
        for section in self.sections:
            parts += [section.heading] if section.heading else []
            parts += section.paragraphs
        return Document("\n\n".join(parts), source="wikipedia_en", lang="en", id=self.id)


def read_articles(dump: Path) -> Iterator[Article]:
    """Reads the articles of a `pages-articles` dump (bz2) without redirects, disambiguations and other namespaces.

    Raises:
        ImportError: mwparserfromhell is not installed.
        ValueError: the dump is damaged.
    """
    try:
        import mwparserfromhell  # noqa: F401  fail before anything is read
    except ImportError as error:
        raise ImportError("reading a Wikipedia dump needs mwparserfromhell: pip install 'mindllm-jax[data]'") from error
    for title, revision, markup in _raw_articles(dump):
        if sections := parse_article(markup):
            yield Article(title, revision, sections)


def _raw_articles(dump: Path) -> Iterator[tuple[str, int, str]]:
    """Yields title, revision and markup of every article."""
    try:
        with open(dump, "rb") as file:
            for record in read_wiki(unpacked(file, file.read(16)), longest=_LONGEST):
                if isinstance(record, Bad):
                    raise BadFile(record.kind, f"{record.where}: {record.message}")
                if not re.search(r"\{\{\s*(disambig|hndis|geodis)", record.text, re.IGNORECASE):
                    yield record.metadata["title"], int(record.columns.get("revision", 0)), record.text
    except (OSError, BadFile) as error:
        raise ValueError(f"{dump} is damaged ({error}); delete it and fetch it again") from error
