"""Writers of small files in the demo's three formats, as fixtures."""

import bz2
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

ARTICLES = [
    # law, status, chapter, section, number, text
    ("甲法", "现行有效", "第一章 总则", None, "第一条", "为了保护公民的合法权益，制定本法。"),
    ("甲法", "现行有效", "第一章 总则", None, "第二条", "国家鼓励单 位开展活动。\n具体办法由国务院规定。"),
    (
        "甲法",
        "现行有效",
        "第二章 罚则",
        "第一节 责任",
        "第三条",
        "违反本法规定的，给予警告。\n税 目 | 税率\n+----+---+\n附：表",
    ),
    ("甲法", "历史版本", "第一章 总则", None, "第一条", "旧的第一条。"),
    ("乙法修正案", "现行有效", None, None, "条目一", "将第一条修改为：“新的第一条。”"),
    ("丙解释", "现行有效", None, None, "全文", "解释如下。"),
]


def write_statutes(path: Path, articles=ARTICLES) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE articles (id INTEGER PRIMARY KEY, law_id TEXT, law_name TEXT, status TEXT, chapter TEXT,"
            " section TEXT, article_no TEXT, article_text TEXT)"
        )
        for law, status, chapter, section, number, text in articles:
            connection.execute(
                "INSERT INTO articles (law_id, law_name, status, chapter, section, article_no, article_text)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (f"{law}/{status}", law, status, chapter, section, number, text),
            )
        connection.commit()
    return path


def write_novel(path: Path, chapters: list[str]) -> Path:
    path.write_text(json.dumps(chapters), "utf-8")
    return path


def write_dump(path: Path, pages: dict[str, str], namespace: int = 0) -> Path:
    xml = ['<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">']
    for number, (title, markup) in enumerate(pages.items(), start=1):
        redirect = '<redirect title="x" />' if markup.startswith("#REDIRECT") else ""
        xml.append(
            f"<page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{redirect}"
            f"<revision><id>{700 + number}</id><text>{escape(markup)}</text></revision></page>"
        )
    path.write_bytes(bz2.compress("".join([*xml, "</mediawiki>"]).encode()))
    return path


@pytest.fixture
def statutes():
    return write_statutes


@pytest.fixture
def novel():
    return write_novel


@pytest.fixture
def dump():
    return write_dump
