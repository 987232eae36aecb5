"""Pages: atomic, self-contained, and with text escaped."""

import re
from html.parser import HTMLParser

import jinja2
import pytest

from mindllm_jax.reporting.page import Details, Figure, Page, Paragraph, Sample, Section, render, write_page
from mindllm_jax.reporting.plots import line_plot
from mindllm_jax.reporting.tables import Table

PLOT = line_plot({"loss": ([1, 2], [3.0, 2.0])}, x_label="step", y_label="loss")
PAGE = Page(
    "A & B",
    "<lead>",
    [
        Section("First", [Paragraph("a < b"), Table(("x",), [("<td>",)]), Figure(PLOT, 'A "plot"')]),
        Section(
            "中文", [Sample("<user>\n 问", "  答 & 案\n", label="一个 <样本>"), Details("config.json", '{"a": "<b>"}')]
        ),
    ],
)


class Reader(HTMLParser):
    """Collects the text by element and fails on an element that is not closed."""

    VOID = frozenset({"meta", "path", "use", "line", "rect", "image"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.text[tag] = self.text.get(tag, "") + data


def test_parts_are_rendered_and_escaped():
    reader = Reader(render(PAGE))
    assert reader.open == []
    assert reader.text["h1"] == "A & B"
    assert reader.text["h2"] == "First中文"
    assert reader.text["p"] == "<lead>a < b"
    assert reader.text["td"] == "<td>"
    assert reader.text["figcaption"] == 'A "plot"'
    assert reader.text["pre"] == '<user>\n 问  答 & 案\n{"a": "<b>"}'
    assert reader.text["summary"] == "config.json"
    assert "一个 <样本>" in reader.text["div"]


def test_nothing_is_loaded_from_elsewhere():
    text = render(PAGE)
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert links
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"<script|<link|@import|url\((?!#)", text)


def test_ids_are_unique():
    names = re.findall(r' id="([^"]*)"', render(PAGE))
    assert len(names) == len(set(names))


def test_page_is_replaced_atomically(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_page(path, PAGE)
    assert path.read_text("utf-8") == render(PAGE)
    with pytest.raises(jinja2.UndefinedError):
        write_page(path, Page("broken", "", [None]))  # pyright: ignore[reportArgumentType]
    assert path.read_text("utf-8") == render(PAGE)
    assert list(path.parent.iterdir()) == [path]
